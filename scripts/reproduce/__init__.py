"""One file a published or own claim: what is claimed, measured here."""
