"""One way to plug something in: a decorated function in one file, found by its name.

The outer function takes the settings, the inner one does the work; nothing else is edited::

    @method
    def blindfold(questions: int = 3): ...

``resolve("method", "blindfold")`` finds it among the files of the rooms that hold its kind,
``"my_package.mine:blindfold"`` in a user's own package, and packaging entry points of the group
``vlm_selfalign.method`` by their names.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from vlm_selfalign.core.errors import UserError, nearest
from vlm_selfalign.core.seeds import digest_bytes

T = TypeVar("T")

ROOMS: dict[str, tuple[str, ...]] = {
    "method": ("methods",),
    "fold": ("methods", "data"),
    "decoder": ("decoding",),
    "probe": ("probes",),
    "source": ("data",),
    "loss": ("train",),
    "metric": ("metrics",),
    "service": ("models",),
}
"""Which rooms of the house hold which kind; only these are imported to find a name."""

_found: dict[tuple[str, str], Plugin[Any]] = {}


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """A named factory: call it with settings, get the thing. Wrong settings raise ``UserError`` with their path."""

    kind: str
    name: str
    factory: Callable[..., T]

    def __call__(self, *args: Any, **settings: Any) -> T:
        """Build it; positional arguments are for Python users, in the order of the signature."""
        names = list(inspect.signature(self.factory).parameters)
        if len(args) > len(names):
            raise TypeError(f"{self.name} takes {len(names)} settings, got {len(args)}")
        given = dict(zip(names, args, strict=False)) | settings
        return self.build(given)

    def build(self, settings: dict[str, Any], where: str = "") -> T:
        """Check the settings against the factory's annotations and call it. ``where`` prefixes keys in errors."""
        try:
            checked = self._schema.model_validate(settings)
        except ValidationError as error:
            raise UserError(explain(error, where or self.name, self._schema)) from None
        return self.factory(**{name: getattr(checked, name) for name in type(checked).model_fields})

    def filled(self, settings: dict[str, Any]) -> dict[str, Any]:
        """All settings with their defaults, as JSON: what a stage's key and the page show."""
        return self._schema.model_validate(settings).model_dump(mode="json")

    @property
    def parameters(self) -> list[str]:
        """Names of its settings."""
        return list(inspect.signature(self.factory).parameters)

    @property
    def doc(self) -> str:
        """The first line of the docstring, or of the file's."""
        module = inspect.getmodule(self.factory)
        return (inspect.getdoc(self.factory) or (module and module.__doc__) or "").strip().split("\n")[0]

    @cached_property
    def source_hash(self) -> str:
        """Hash of the file that defines it: its prompts and its helpers count, the path does not."""
        path = Path(inspect.getfile(self.factory))
        # A notebook's cell has a file name but no file; its source is all there is.
        return digest_bytes(path.read_bytes() if path.is_file() else inspect.getsource(self.factory).encode())

    @cached_property
    def _schema(self) -> type[BaseModel]:
        hints = typing.get_type_hints(self.factory, include_extras=True)
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.factory).parameters.items():
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
        return create_model(self.name, __config__=config, **fields)


def _decorator(kind: str) -> Callable[[Callable[..., Any]], Plugin[Any]]:
    def register(factory: Callable[..., Any]) -> Plugin[Any]:
        name = getattr(factory, "__name__", "").removesuffix("_")
        plugin: Plugin[Any] = Plugin(kind, name, factory)
        known = _found.get((kind, name))
        if known and _of_the_house(known):
            if not _of_the_house(plugin):
                return plugin  # a user's own file may use any name: it is reached as module:name
            if inspect.getfile(known.factory) != inspect.getfile(factory):
                raise ValueError(f"two {kind}s are called '{name}': {inspect.getfile(known.factory)} and this file")
        _found[kind, name] = plugin
        return plugin

    return register


def _of_the_house(plugin: Plugin[Any]) -> bool:
    return plugin.factory.__module__.startswith("vlm_selfalign.")


method = _decorator("method")
fold = _decorator("fold")
decoder = _decorator("decoder")
probe = _decorator("probe")
source = _decorator("source")
loss = _decorator("loss")
metric = _decorator("metric")
service = _decorator("service")


def resolve(kind: str, name: str, where: str = "") -> Plugin[Any]:
    """The plug-in of this kind and name. Raises ``UserError`` with the nearest name when there is none."""
    if ":" in name:
        return _from_module(kind, name, where)
    _import_rooms(kind)
    if (kind, name) in _found:
        return _found[kind, name]
    for entry in importlib.metadata.entry_points(group=f"vlm_selfalign.{kind}"):
        if entry.name == name:
            return _as_plugin(kind, name, entry.load())
    prefix = f"{where}: " if where else ""
    raise UserError(f"{prefix}no {kind} called '{name}'{nearest(name, known(kind))}")


def known(kind: str) -> list[str]:
    """All names of this kind that ship or are installed, sorted."""
    _import_rooms(kind)
    entries = importlib.metadata.entry_points(group=f"vlm_selfalign.{kind}")
    return sorted({name for (k, name) in _found if k == kind} | {entry.name for entry in entries})


@cache
def _import_rooms(kind: str) -> None:
    for room in ROOMS[kind]:
        package = importlib.import_module(f"vlm_selfalign.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            if not module.ispkg or kind == "source":
                importlib.import_module(f"{package.__name__}.{module.name}")


def _from_module(kind: str, name: str, where: str) -> Plugin[Any]:
    module_name, _, attribute = name.partition(":")
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where + ': ' if where else ''}cannot load {kind} '{name}': {error}") from None
    return _as_plugin(kind, attribute, target)


def _as_plugin(kind: str, name: str, target: Any) -> Plugin[Any]:
    if isinstance(target, Plugin):
        if target.kind != kind:
            raise UserError(f"'{name}' is a {target.kind}, not a {kind}")
        return target
    return Plugin(kind, name, target)


def explain(error: ValidationError, where: str, schema: type[BaseModel]) -> str:
    """One line for the first thing pydantic found: the key's path, what is wrong, the nearest valid name."""
    first = error.errors()[0]
    path = ".".join([where, *(str(part) for part in first["loc"])]) if where else ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        unknown = str(first["loc"][-1])
        fields = _fields_at(schema, first["loc"][:-1])
        return f"{path}: unknown key{nearest(unknown, fields)}"
    if first["type"] == "missing":
        return f"{path}: missing; it must be given"
    shown = repr(first.get("input"))
    return f"{path}: {first['msg'][0].lower()}{first['msg'][1:]} (got {shown[:60]})"


def _fields_at(schema: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        inner = schema.model_fields.get(str(part))
        if inner is None or not (isinstance(inner.annotation, type) and issubclass(inner.annotation, BaseModel)):
            return []
        schema = inner.annotation
    return list(schema.model_fields)
