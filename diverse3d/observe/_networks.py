"""The package's networks (mediapipe's official models), run by LiteRT."""

import functools
import importlib.resources
import threading

import numpy as np


class Model:
    """One network. Interpreters hold state, so a lock lets threads share it."""

    def __init__(self, name: str) -> None:
        # Imported here: only photos need it, and it takes a while to load.
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        content = (importlib.resources.files("diverse3d") / "assets" / f"{name}.tflite").read_bytes()
        # One thread and the built-in kernels: the same bits every run, and no delegate that chats on stderr.
        self._interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self._lock = threading.Lock()

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """One picture [H,W,3] in; all outputs, as float64."""
        with self._lock:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(pixels[None], dtype=np.float32))
            self._interpreter.invoke()
            return tuple(self._interpreter.get_tensor(index).astype(np.float64) for index in self._outputs)


@functools.cache
def model(name: str) -> Model:
    """A network of the package's assets, loaded once."""
    return Model(name)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Probability of log odds."""
    return 1.0 / (1.0 + np.exp(-np.clip(x, -100.0, 100.0)))


def logit(p: float) -> float:
    """Log odds of a probability."""
    p = min(max(p, 1e-12), 1.0 - 1e-12)
    return float(np.log(p / (1.0 - p)))
