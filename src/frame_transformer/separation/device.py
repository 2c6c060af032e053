"""The device and data type of the network."""

import ctypes
import os
import signal
import sys
import time
import warnings

import torch

from ..errors import FrameTransformerWarning, OptionError
from ..models import SignalConfig
from .options import DTYPES

# Bytes of memory per magnitude in the input of the network: 68 were measured for the default network, and 400 or more
# for the large ones.
PASS_BYTES = 64
_checked_process = os.getpid()


def resolve_device(device: str) -> torch.device:
    """Resolves a device; ``"auto"`` selects CUDA, else Apple's MPS, else the CPU.

    Raises:
        OptionError: the device is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device!r} is not available here: use auto or cpu") from error


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Resolves a data type by name and warns if it is slow on the device.

    Raises:
        OptionError: the device cannot compute in it.
    """
    one = torch.ones(1, 1, device=device, dtype=DTYPES[dtype])
    try:
        one @ one
    except RuntimeError as error:
        raise OptionError(f"device {str(device)!r} cannot compute in {dtype}: use float32") from error
    if dtype == "float16" and device.type == "cpu":
        warnings.warn("float16 is far slower than float32 on a CPU: use float32", FrameTransformerWarning, stacklevel=3)
    return DTYPES[dtype]


def check_window(frames: int, signal: SignalConfig, device: torch.device) -> None:
    """Raises an error for a window that cannot fit into memory; on the CPU, the system would kill the process.

    Raises:
        OptionError: ``frames``, the frames of a pass with context, cannot fit into memory.
    """
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif sys.platform != "win32":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return
    needed = PASS_BYTES * signal.channels * signal.n_fft // 2 * frames
    if needed > memory:
        raise OptionError(
            f"a window of {frames} frames needs more than {needed / 1e9:.0f} GB of memory, there are"
            f" {memory / 1e9:.0f} GB: make --window or --context smaller"
        )


def check_process() -> None:
    """Raises an error in a forked process in which PyTorch would hang.

    The OpenMP threads of a process do not survive a fork, and OpenMP waits for them forever.

    Raises:
        OptionError: PyTorch would hang.
    """
    global _checked_process
    if os.getpid() != _checked_process and torch.get_num_threads() > 1 and _threads_hang():
        raise OptionError(
            "this process was forked from one that has used PyTorch, which hangs here: start workers with "
            'multiprocessing.get_context("spawn"), or call torch.set_num_threads(1) in them first'
        )
    _checked_process = os.getpid()


def _threads_hang() -> bool:
    """Tests it in a fork of this process, because a thread that waits in OpenMP cannot be stopped."""
    trial = os.fork()
    if trial == 0:
        torch.ones(1 << 20).exp()  # large enough to use several threads
        os._exit(0)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if os.waitpid(trial, os.WNOHANG)[0]:
            return False
        time.sleep(0.01)
    os.kill(trial, signal.SIGKILL)
    os.waitpid(trial, 0)
    return True


def keep_freed_memory() -> None:
    """Lets this process reuse the memory of freed tensors instead of returning it; only glibc is asked.

    By default every large tensor gets fresh pages, and clearing them takes a seventh to a third of a pass of the
    default network. The process holds on to its peak memory, which grows by a tenth to a fifth at long windows.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        m_trim_threshold, m_mmap_threshold, never = -1, -3, 1 << 30
        libc.mallopt(m_mmap_threshold, never)
        libc.mallopt(m_trim_threshold, never)
