"""Maya: a picture and a question in ten languages in, an answer out; and the training of such models.

What users need is named here, and loaded when it is first used: `from maya_core import load_best`. The names stand in
`__init__.pyi`. Importing this also makes Maya known to transformers' Auto classes, without importing those.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import lazy_loader
from wrapt import when_imported

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _register_with_transformers() -> None:
    """Names at first, classes when they are asked for: the Auto classes look in `transformers.models.TYPE`."""
    sys.modules["transformers.models.maya"] = sys.modules[__name__]
    for file, names, name, own in (
        ("configuration_auto", "CONFIG_MAPPING_NAMES", "MayaConfig", "config"),
        ("modeling_auto", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MayaForConditionalGeneration", "maya"),
        ("processing_auto", "PROCESSOR_MAPPING_NAMES", "MayaProcessor", "processor"),
    ):
        auto = f"transformers.models.auto.{file}"
        if auto in sys.modules:  # too late for names; each of our files registers its class
            import_module(f"{__name__}.model.{own}")
        else:
            when_imported(auto)(_naming(names, name))


def _naming(names: str, name: str) -> Callable[[ModuleType], None]:
    def register(auto: ModuleType) -> None:
        getattr(auto, names)["maya"] = name

    return register


_register_with_transformers()
