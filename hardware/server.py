"""The far half of split networks, behind a socket; gRPC is imported when it is opened."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, final

import torch

from penstock.backbones import Backbone, InputError, in_order, run_exactly
from penstock.hardware.features import decode
from penstock.hardware.fingerprint import fingerprint
from penstock.hardware.wire import ASKING, ECHOING, GREETING, Answer, Network, Question

MIB: Final = 1 << 20

THREADS: Final = 4
"""Questions answered at once."""

WAITING: Final = 64
"""Questions that may be there at once; further ones are turned away, and run on the device."""


@final
class FarHalf:
    """Answers the messages of `wire` with a backbone, from any block on; bytes in, bytes out.

    Args:
        backbone: put into evaluation mode; it stays where it is, on a CPU or a GPU.
        most_bytes: of a message.
    """

    def __init__(self, backbone: Backbone, most_bytes: int = 64 * MIB) -> None:
        places = in_order(backbone.eval())
        self._order = [block for block, _ in places]
        self._shapes = {block.name: shape for block, shape in places}
        self._device = next(backbone.parameters()).device
        self.network = Network(
            {block.name: fingerprint(block) for block in self._order},
            tuple(f"exits.{index}" for index in backbone.exits),
            backbone.classes,
            most_bytes,
        )
        self._knobs = {knob.name: knob for knob in (*backbone.stem.knobs, *backbone.knobs)}

    def greet(self, data: bytes) -> bytes:
        """Who is here."""
        return self.network.to_bytes()

    def echo(self, data: bytes) -> bytes:
        """Nothing, once everything has arrived."""
        return b""

    @torch.no_grad()
    def answer(self, data: bytes) -> bytes:
        """Run features through the rest of the network.

        Raises:
            InputError: if they are of another network, or nothing that it can run.
        """
        question = Question.from_bytes(data)
        self._check(question)
        x = decode(question.coded).to(self._device)
        logits = torch.zeros(len(x), len(self.network.heads), self.network.classes)
        names = [block.name for block in self._order]
        for block in self._order[names.index(question.block) :]:
            y = run_exactly(block, x, question.setting)
            if block.name in self.network.heads:
                logits[:, self.network.heads.index(block.name)] = y.cpu()
            else:
                x = y
        return Answer(logits).to_bytes()

    def _check(self, question: Question) -> None:
        here = self.network.fingerprint
        if question.network != here:
            raise InputError(
                f"the features are of the network {question.network[:12]} and this server runs "
                f"{here[:12]}; give both sides the same weights"
            )
        expected, got = self._shapes.get(question.block), tuple(question.coded.codes.shape[1:])
        if got != expected:
            raise InputError(
                f"{question.block[:40]} takes features {expected}, got {got}; check the block"
            )
        for name, value in question.setting.items():
            if name in self._knobs and value not in self._knobs[name].choices:
                raise InputError(
                    f"knob {name!r} can stand at {self._knobs[name].choices}, got {value}; "
                    "choose among these"
                )


@final
class Socket:
    """A `FarHalf` that listens.

    Neither encrypted nor authenticated: whoever reaches the port may ask.

    Args:
        half: to answer.
        host: to listen on; a loopback address is reached from this machine alone.
        port: 0 takes a free one.

    Raises:
        InputError: if the port cannot be had.
    """

    def __init__(self, half: FarHalf, host: str = "127.0.0.1", port: int = 0) -> None:
        import grpc

        def handler(answer: Callable[[bytes], bytes]) -> Any:
            def respond(data: bytes, context: Any) -> bytes:
                try:
                    return answer(data)
                except InputError as error:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                    raise  # abort does

            return grpc.unary_unary_rpc_method_handler(respond)

        methods = {GREETING: half.greet, ASKING: half.answer, ECHOING: half.echo}
        service, names = GREETING.split("/")[1], {m.split("/")[2]: a for m, a in methods.items()}
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS),
            options=[
                ("grpc.so_reuseport", 0),  # a port that is taken is an error
                ("grpc.max_receive_message_length", half.network.most_bytes),
            ],
            maximum_concurrent_rpcs=WAITING,
        )
        handlers = {name: handler(answer) for name, answer in names.items()}
        generic = grpc.method_handlers_generic_handler(service, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        try:
            self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise InputError(
                f"{host}:{port} cannot be listened on; it is taken or not of this machine, choose "
                "another --port or --host"
            )
        self._server.start()

    def close(self, grace_s: float = 5.0) -> None:
        """Take no more questions, finish those that came, and go."""
        self._server.stop(grace_s).wait()
