"""Where the network computes, and in which type of numbers."""

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

# Of memory that a pass takes for every magnitude that the network sees: measured 68 for the default network, 400 and
# more for the large ones.
PASS_BYTES = 64
_checked_process = os.getpid()


def resolve_device(device: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, then Apple's MPS, then the CPU.

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
    """A type of numbers by name; one that the device computes slowly in is warned of.

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
    """Refuses a window that no memory here can hold; on a CPU, the system would end the process for it.

    Raises:
        OptionError: it is such a window. ``frames`` are those of a pass with their context.
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
    """Refuses to compute in a forked process in which PyTorch would wait for ever.

    Where a process has computed with several threads, these do not survive a fork, and OpenMP waits for them.

    Raises:
        OptionError: this is such a process.
    """
    global _checked_process
    if os.getpid() != _checked_process and torch.get_num_threads() > 1 and _threads_hang():
        raise OptionError(
            "this process was forked from one that has used PyTorch, which hangs here: start workers with "
            'multiprocessing.get_context("spawn"), or call torch.set_num_threads(1) in them first'
        )
    _checked_process = os.getpid()


def _threads_hang() -> bool:
    """Tries it in a fork of this process, because a thread that waits in OpenMP cannot be stopped."""
    trial = os.fork()
    if trial == 0:
        torch.ones(1 << 20).exp()  # large enough to be shared out among threads
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
