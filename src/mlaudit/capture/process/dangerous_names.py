"""The names in a pickle that can do more than build data.

A pickle is a program for a small machine that calls what it names. A harmless one names classes and functions that
rebuild data: numpy's arrays and dtypes, scikit-learn's estimators, joblib's wrappers, pandas' blocks. The names here
run commands, import or make code, open files and connections, or reach any attribute of any object; none of them is
needed for data. The list follows what scanners of model files (picklescan, fickling) have found in real files.
"""

from __future__ import annotations

import _compat_pickle
import sys
from enum import Enum
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

MAX_LENGTH: Final = 2000
# Everything in these modules. A project may have a folder with one of these names: see PACKAGES.
MODULES: Final = frozenset(
    {
        # Commands and processes.
        "os", "posix", "nt", "subprocess", "_posixsubprocess", "_winapi", "pty", "popen2", "commands",
        "multiprocessing.util", "multiprocessing.popen_fork", "multiprocessing.popen_spawn_posix", "asyncio.subprocess",
        "asyncio.unix_events", "signal", "_signal",
        # The interpreter, and code made at run time.
        "sys", "code", "codeop", "_frozen_importlib", "_frozen_importlib_external", "imp", "_imp", "runpy", "pkgutil",
        "zipimport", "marshal", "_ctypes", "gc", "atexit", "site", "pydoc",
        # Debuggers and runners of given code.
        "bdb", "pdb", "cProfile", "profile", "timeit", "trace", "doctest", "pydevd",
        # Another unpickler, which would hide what is in it.
        "pickle", "_pickle", "shelve",
        # Files and connections.
        "shutil", "tempfile", "socket", "_socket", "socketserver", "ssl", "_ssl", "webbrowser", "http.client",
        "http.server", "httplib", "urllib.request", "urllib2", "ftplib", "smtplib", "telnetlib", "poplib", "imaplib",
        "requests.api", "httpx._api", "aiohttp.client",
        # Functions of libraries that run a text as code.
        "torch.hub", "torch.utils.cpp_extension", "torch._dynamo.guards", "torch.fx.experimental.symbolic_shapes",
        "numpy.testing._private.utils",
    }
)  # fmt: skip
# And everything below these.
PACKAGES: Final = frozenset(
    {
        "importlib",
        "ctypes",
        "cffi",
        "venv",
        "ensurepip",
        "pip",
        "setuptools",
        "distutils",
        "idlelib",
        "lib2to3",
    }
    | {"debugpy", "IPython", "dill", "pexpect", "xmlrpc", "paramiko", "torch._inductor", "numpy.f2py"}
    | {"numpy.distutils"}
)
# Only these names of modules that are otherwise harmless.
NAMES: Final = frozenset(
    {
        *(
            f"builtins.{name}"
            for name in (
                "eval", "exec", "compile", "__import__", "open", "getattr", "setattr", "delattr", "vars", "globals",
                "locals", "input", "breakpoint", "apply", "execfile", "file", "help", "__build_class__", "reload",
                "raw_input",
            )
        ),
        "operator.attrgetter", "operator.methodcaller", "_operator.attrgetter", "_operator.methodcaller",
        "functools.reduce", "types.FunctionType", "types.CodeType", "types.ModuleType", "types.MethodType",
        "io.open", "io.open_code", "io.FileIO", "_io.open", "_io.open_code", "_io.FileIO", "codecs.open", "_pyio.open",
        "linecache.getline", "linecache.getlines", "logging.FileHandler", "logging.config.fileConfig",
        "logging.config.dictConfig", "logging.config.listen", "numpy.load", "numpy.save", "numpy.fromfile",
        "numpy.memmap", "numpy.lib.npyio.load", "numpy.lib._npyio_impl.load", "joblib.load", "joblib.dump",
        "joblib.numpy_pickle.load", "joblib.numpy_pickle.dump", "pandas.read_pickle", "pandas.eval",
        "pandas.io.pickle.read_pickle", "torch.load", "torch.serialization.load", "torch.jit.load", "yaml.load",
        "yaml.unsafe_load", "yaml.full_load",
        # Functions made from code that the pickle carries, as cloudpickle does it.
        *(
            f"{module}.{name}"
            for module in ("cloudpickle.cloudpickle", "joblib.externals.cloudpickle.cloudpickle", "cloudpickle")
            for name in ("_make_function", "_make_skel_func", "subimport", "dynamic_subimport", "loads")
        ),
    }
)  # fmt: skip
# On the way through an object to everything else.
_PATHS: Final = frozenset(
    {
        "__globals__",
        "__builtins__",
        "__dict__",
        "__code__",
        "__subclasses__",
        "__mro__",
        "__base__",
        "__bases__",
    }
    | {"__getattribute__", "__import__", "__loader__", "__spec__", "__self__", "func_globals", "gi_frame"}
)
# What a module that is not imported yet is likely to have imported under its own name.
_REACHED: Final = frozenset(
    {"os", "sys", "subprocess", "posix", "nt", "builtins", "importlib", "socket", "shutil"}
)
_FUNCTIONS: Final = (FunctionType, BuiltinFunctionType, type)
# Members of dangerous modules that only hold data.
_DATA: Final = (BaseException, Enum, tuple)


def is_dangerous(module: str, name: str) -> bool:
    """Whether ``find_class(module, name)`` gives something that can do more than build data.

    Decided by the names as Python 2 and 3 write them, by the names inside of a dotted name, which reach through any
    module to what it has imported, and, where the module is imported already, by where the object really comes from. An
    object of a module that is not imported yet is judged by its name alone; nothing is imported for the check.
    """
    if len(module) + len(name) > MAX_LENGTH:  # no legitimate pickle has such a name
        return True
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    found = _resolve(module, name)
    if f"{module}.{name}" in NAMES:
        return True
    if _is_listed(module):
        return not (isinstance(found, type) and issubclass(found, _DATA))
    parts = name.split(".")
    if not _PATHS.isdisjoint(parts) or not _REACHED.isdisjoint(parts[:-1]):
        return True
    if isinstance(found, ModuleType):
        return True
    # Under the name by which another module imported it; a callable object is judged by its class.
    if not isinstance(found, _FUNCTIONS):
        return _is_listed(type(found).__module__) and not issubclass(type(found), _DATA)
    if isinstance(found, type) and issubclass(found, _DATA):
        return False
    home = found.__module__
    return (
        isinstance(home, str)
        and home != module
        and (_is_listed(home) or f"{home}.{found.__qualname__}" in NAMES)
    )


def _is_listed(module: str) -> bool:
    if module in MODULES:
        return True
    while module:
        if module in PACKAGES:
            return True
        module = module.rpartition(".")[0]
    return False


def _resolve(module: str, name: str) -> Any:
    """The object, if it can be found without running code; else None."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        # Not getattr, which may run foreign code.
        held = getattr(found, "__dict__", None) if isinstance(found, ModuleType | type) else None
        found = held.get(part) if held is not None else None
    return found
