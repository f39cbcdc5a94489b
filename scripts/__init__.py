"""The console command `penstock`, and the experiments it knows by name."""
