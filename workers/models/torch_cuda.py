"""Models in torch on a GPU: bfloat16, channels_last, compiled, with the roll-up and the decision on the device.

Theory of operation
    Three streams. `copy` brings photos from pinned memory into one of a few places on the device; `compute` runs the
    network over them, always the same number, a short batch in front of whatever was there before; `decide` rolls up
    and brings home the few columns that are stored, waiting for its own batch only, while `compute` has the next ones.
    `start` waits for nothing. A place is written again when the network has read it: an event says so, on the device.

Laws
1. A batch that does not fit into the device's memory is run again in halves, and so is everything after it. One photo
   that does not fit is a ModelError.
2. Any other error of the device is DeviceLost: CUDA answers nothing else in this process from then on.
3. The last layer, the softmax and what follows are float32 or exacter, without TensorFloat.

On the CPU the same code runs without streams: that is how its bookkeeping is tested.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import DeviceLost, ModelError
from taxonomy.decide import Decided, Decision
from taxonomy.errors import BadScores
from taxonomy.graph import load as load_taxonomy
from workers.decode.records import Pixels
from workers.models import canary
from workers.models.host import Probabilities, check_finite
from workers.models.prepare import Seeing, folded, in_bfloat16
from workers.models.rollup import DeviceRollup
from workers.models.spec import ModelSpec

log = logging.getLogger(__name__)

IN_FLIGHT = 3  # batches: one copied, one computed, one decided
COMPILER = "max-autotune-no-cudagraphs"  # graphs save launches, of which full batches have few

Result = TypeVar("Result")


@dataclass(kw_only=True, slots=True)
class _Place:
    """Where one batch lies on the device."""

    photos: Tensor  # uint8 [batch_photos, size, size, 3]
    read: torch.cuda.Event | None = None  # when the network has read what is there


@dataclass(frozen=True, kw_only=True, slots=True)
class _Streams:
    """The queues of a GPU; on the CPU there are none, and everything happens at once."""

    copy: torch.cuda.Stream | None = None
    compute: torch.cuda.Stream | None = None
    decide: torch.cuda.Stream | None = None

    @classmethod
    def of(cls, device: torch.device) -> "_Streams":
        if device.type != "cuda":
            return cls()
        return cls(
            copy=torch.cuda.Stream(device),  # type: ignore[no-untyped-call]
            compute=torch.cuda.Stream(device),  # type: ignore[no-untyped-call]
            # first, for its small kernels would wait for many of the network's large ones
            decide=torch.cuda.Stream(device, priority=-1),  # type: ignore[no-untyped-call]
        )


class _Pending:
    """A batch that the device works on."""

    def __init__(self, model: "CudaClassifier", pixels: Pixels, begun: "_Begun") -> None:
        self._model = model
        self._pixels = pixels
        self._begun: _Begun | None = begun

    def decided(self) -> Decided:
        """See `workers.models.classifier.Pending`."""
        begun, self._begun = self._begun, None  # where it has to be run again, what was begun is in the way
        return self._model.decided(self._pixels, begun)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """What the device has been told to do for a batch."""

    probabilities: Tensor  # [B, L], float32, on the device
    computed: torch.cuda.Event | None  # when they are there


class CudaClassifier:
    """A `workers.models.classifier.Classifier` on a GPU."""

    runtime = "torch"

    def __init__(
        self,
        spec: ModelSpec,
        network: nn.Module,
        decision: Decision,
        device: torch.device,
        *,
        batch_photos: int,
        compiled: bool = True,
    ) -> None:
        """Prepare `network`, compile it and run it once; it may be changed. Takes a minute or more the first time.

        Raises:
            ModelError: not even one photo fits into the device's memory.
            DeviceLost: the device does not work.
        """
        taxonomy = load_taxonomy(spec.taxonomy)
        self.spec = spec
        self.in_flight = IN_FLIGHT
        self.batch_photos = batch_photos
        self._decision = decision
        self._device = device
        self._cuda = device.type == "cuda"
        self.device = f"{device} {torch.cuda.get_device_name(device)}" if self._cuda else str(device)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        quick = folded(network, spec.image_size)
        low = in_bfloat16(quick, taxonomy.classes, spec.image_size)
        self.precision = "fp32" if low is None else "bf16"
        seeing = Seeing(quick, spec) if low is None else Seeing(low, spec, torch.bfloat16)
        with self._errors():
            self._network: Callable[[Tensor], Tensor] = seeing.eval().to(device).to(memory_format=torch.channels_last)
            self._rollup = DeviceRollup(taxonomy, device)
            self._streams = _Streams.of(device)
        self._places: list[_Place] = []
        self._turn = 0  # whose place it is
        self._warm_up(compiled=compiled)

    def buffer(self) -> Pixels:
        """See `workers.models.classifier.Classifier`."""
        shape = (self.batch_photos, self.spec.image_size, self.spec.image_size, 3)
        with self._errors():
            pixels: Pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._cuda).numpy()
        return pixels

    def start(self, pixels: Pixels) -> _Pending:
        """See `workers.models.classifier.Classifier`. More photos than `batch_photos` are taken in several turns."""
        if len(pixels) == 0:
            raise ValueError("a batch has at least one photo")
        return _Pending(self, pixels, self._fitting(lambda: self._begin(pixels)))

    def decided(self, pixels: Pixels, begun: _Begun | None) -> Decided:
        """What a batch shows, from what was begun or from its photos."""

        def finish() -> Decided:
            nonlocal begun
            found, begun = begun or self._begin(pixels), None
            with self._on(self._streams.decide):
                self._await(found)
                return self._rollup.decide(found.probabilities, self._decision)

        try:
            return self._fitting(finish)
        except BadScores as exc:
            raise ModelError(f"{self.spec.name} returned what is no probability: {exc}") from exc

    def predict(self, pixels: Pixels) -> Probabilities:
        """See `workers.models.classifier.Classifier`."""

        def finish() -> Probabilities:
            begun = self._begin(pixels)
            with self._on(self._streams.decide):
                self._await(begun)
                found: Probabilities = begun.probabilities.cpu().numpy()
            return found

        probabilities = self._fitting(finish)
        check_finite(probabilities, self.spec)
        return probabilities

    def verify(self) -> None:
        """See `workers.models.classifier.Classifier`."""
        canary.check(self.spec, self.predict)

    # ---- the device

    @torch.inference_mode()
    def _begin(self, pixels: Pixels) -> _Begun:
        """Queue the work for any number of photos."""
        self._places = self._places or self._new_places()
        photos = torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"]))  # what torch can read in place
        parts = [self._run(photos[at : at + self.batch_photos]) for at in range(0, len(photos), self.batch_photos)]
        with self._on(self._streams.compute):
            probabilities = torch.cat(parts) if len(parts) > 1 else parts[0]
            return _Begun(probabilities=probabilities, computed=self._event())

    def _run(self, photos: Tensor) -> Tensor:
        """Queue one turn: copy, compute; probabilities of up to `batch_photos` photos."""
        place = self._places[self._turn]
        self._turn = (self._turn + 1) % IN_FLIGHT
        streams = self._streams
        with self._on(streams.copy):
            if streams.copy is not None and place.read is not None:
                streams.copy.wait_event(place.read)
            place.photos[: len(photos)].copy_(photos, non_blocking=True)
            copied = self._event()
        with self._on(streams.compute):
            if streams.compute is not None and copied is not None:
                streams.compute.wait_event(copied)
            probabilities = softened(self._network(place.photos)[: len(photos)], self.spec)
            place.read = self._event()
        return probabilities

    def _await(self, begun: _Begun) -> None:
        """Let the stream of the decisions wait for a batch, and its memory wait for that stream."""
        if self._streams.decide is not None and begun.computed is not None:
            self._streams.decide.wait_event(begun.computed)
            begun.probabilities.record_stream(self._streams.decide)

    def _event(self) -> torch.cuda.Event | None:
        """Of the moment when the present stream gets here."""
        if not self._cuda:
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _on(self, stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
        return nullcontext() if stream is None else torch.cuda.stream(stream)

    # ---- its memory, and its errors

    def _warm_up(self, *, compiled: bool) -> None:
        """Compile, and see how many photos fit."""
        plain = self._network
        if compiled:
            try:
                self._network = torch.compile(plain, mode=COMPILER, dynamic=False)
                return self._fitting(self._try_out, nullcontext)
            except ModelError:
                raise
            except Exception as exc:  # a compiler, a linker, a driver: whatever is missing, the plain network may run
                log.warning("%s runs uncompiled, and slower (%s: %s)", self.spec.name, type(exc).__name__, exc)
                self._network = plain
        return self._fitting(self._try_out)

    def _try_out(self) -> None:
        """A full batch, from beginning to end."""
        begun = self._begin(np.zeros((self.batch_photos, self.spec.image_size, self.spec.image_size, 3), np.uint8))
        with self._on(self._streams.decide):
            self._await(begun)
            begun.probabilities.cpu()

    def _new_places(self) -> list[_Place]:
        shape = (self.batch_photos, self.spec.image_size, self.spec.image_size, 3)
        places = [torch.zeros(shape, dtype=torch.uint8, device=self._device) for _ in range(IN_FLIGHT)]
        if self._cuda:
            torch.cuda.synchronize(self._device)  # they are filled on another stream than they are used on
        return [_Place(photos=photos) for photos in places]

    def _fitting(
        self, work: Callable[[], Result], errors: Callable[[], AbstractContextManager[None]] | None = None
    ) -> Result:
        """Do work on the device, in ever smaller batches until it fits (law 1)."""
        while True:
            try:
                with (errors or self._errors)():
                    return work()
            except torch.OutOfMemoryError as exc:
                error = exc.with_traceback(None)  # whose frames hold the memory that is to be freed
            self._halve(error)

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        if self.batch_photos == 1:
            raise ModelError(
                f"One photo is too much for the memory of {self.device}; serve {self.spec.name} elsewhere, or give it "
                "more of this device."
            ) from error
        log.warning("%d photos of %s do not fit into %s; half of them", self.batch_photos, self.spec.name, self.device)
        self.batch_photos //= 2
        self._places = []
        if self._cuda:
            with self._errors():
                torch.cuda.synchronize(self._device)
                torch.cuda.empty_cache()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Torch's errors as ours, but for a lack of memory (law 2)."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as exc:  # CUDA's, cuDNN's and cuBLAS's errors are no class of their own in every version
            raise DeviceLost(f"{self.device} does not work any more for {self.spec.name} ({exc}).") from exc


def softened(logits: Tensor, spec: ModelSpec) -> Tensor:
    """`workers.models.host.soften` on a device: float32 probabilities [B, L]."""
    probabilities = torch.softmax(logits / spec.temperature, dim=1)
    evident = (probabilities - spec.noise_floor / logits.shape[1]).clamp_min_(0)
    return evident / evident.sum(dim=1, keepdim=True)
