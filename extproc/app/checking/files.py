"""A file's bytes to what was found in it. Raises nothing: what can't be read is a problem like others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from extproc.app.checking import kinds
from extproc.app.checking.found import Part, Report, Where, split_line, text_in
from extproc.app.checking.gateways import check_gateway
from extproc.app.checking.objects import check_object
from extproc.app.checking.picker import check_picker
from extproc.app.checking.values import configs_of_values, texts_of_map
from extproc.control.advice import advice_on
from extproc.control.exchange import KEY
from extproc.discovery.file import parse_entries
from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.settings.adapters import parse_adapters
from extproc.settings.base import SettingsError, few, shown
from extproc.settings.document import Document, load_documents
from extproc.settings.picker import KIND as PICKER
from extproc.settings.serving import MOST_ENTITIES, read_create, settled
from extproc.settings.serving.delivery import changed, check


def check_file(path: str, *, allow_missing: bool = False) -> Report:
    """A file, by its path."""
    try:
        data = read_file(path)
    except Unusable as error:
        return Report(path, (), tuple(problem.removeprefix(f"{path}: ") for problem in error.problems))
    return check_text(path, data, allow_missing=allow_missing)


def check_text(name: str, data: bytes, *, allow_missing: bool = False) -> Report:
    """A file's bytes; `name` is what it is called. `allow_missing`: types that can't be had are left out, as
    --allow-missing-plugins does."""
    try:
        documents = load_documents(data)
    except SettingsError as error:
        return Report(name, (), tuple(error.problems))
    if not documents:
        return Report(name, (), ("there is nothing in it",))
    if all(kinds.is_adapters(document.value) for document in documents):
        return Report(name, (_all_adapters(data, documents[0]),))
    checker = _Checker(allow_missing, data.decode("utf-8-sig").splitlines())
    return Report(name, tuple(part for document in documents for part in checker.document(document)))


def _all_adapters(data: bytes, first: Document) -> Part:
    try:
        adapters = parse_adapters(data)
    except SettingsError as error:
        return Part(kinds.ADAPTERS, line=first.line, problems=tuple(error.problems))
    number = sum(map(len, adapters.values()))
    return Part(kinds.ADAPTERS, line=first.line, notes=(f"{number} adapters of {len(adapters)} base models",))


@dataclass(frozen=True)
class _Checker:
    allow_missing: bool
    lines: list[str]
    """Of the text that is looked at."""

    def document(self, document: Document) -> Iterator[Part]:
        """One YAML document of the file."""
        yield from self._value(Where(document), document.value, "")

    def _value(self, where: Where, value: Any, prefix: str) -> Iterator[Part]:
        kind = kinds.kind_of(value)
        if kind is None:
            got = (
                "a list"
                if isinstance(value, list)
                else "keys " + shown(list(value))
                if isinstance(value, dict)
                else shown(value)
            )
            yield self._part("unknown", where, prefix, [f"{prefix}expected {kinds.EXPECTED} (got {got})".strip()])
        elif kind == kinds.LIST:
            if not value["items"]:
                yield self._part(kinds.LIST, where, prefix, [], notes=["there is nothing in it"])
            for index, item in enumerate(value["items"]):
                yield from self._value(where, item, f"{prefix}items[{index}].")
        elif kind == kinds.CONFIG_MAP:
            yield from self._config_map(where, value, prefix)
        elif kind == kinds.VALUES:
            yield from self._values(where, value)
        else:
            checks: dict[str, Callable[[Where, Any, str], Part]] = {
                PICKER: self._picker,
                kinds.GATEWAY: self._gateway,
                kinds.OBJECT: self._object,
                kinds.OTHER_OBJECT: self._other,
                kinds.ENDPOINTS: self._endpoints,
                kinds.DISCOVERY: self._discovery,
                kinds.ADAPTERS: self._adapters,
            }
            yield checks[kind](where, value, prefix)

    def _part(self, kind: str, where: Where, prefix: str, problems: list[str], **more: Any) -> Part:
        name = more.pop("name", "") or where.path or prefix.rstrip(".")
        line = None if where.path else where.document.line_of(prefix) if prefix else where.document.line
        warnings = where.locate_all(more.pop("warnings", ()))
        return Part(kind, name, line or None, where.locate_all(few(problems)), warnings, tuple(more.pop("notes", ())), **more)

    # -- one kind each ---------------------------------------------------------------------------------------------

    def _picker(self, where: Where, value: Any, prefix: str) -> Part:
        found = check_picker(value, prefix, allow_missing=self.allow_missing)
        picker = found.described
        return self._part(PICKER, where, prefix, found.problems, warnings=found.warnings, notes=found.notes, picker=picker)

    def _gateway(self, where: Where, value: Any, prefix: str) -> Part:
        document = where.document if not prefix else Document(value, "")
        found = check_gateway(document, allow_missing=self.allow_missing)
        problems = [prefix + problem for problem in found.problems]
        return self._part(
            kinds.GATEWAY, where, prefix, problems, warnings=found.warnings, notes=found.notes, picker=found.described
        )

    def _object(self, where: Where, value: Any, prefix: str) -> Part:
        meta = value.get("metadata")
        name = meta.get("name") if isinstance(meta, dict) else None
        return self._part(value["kind"], where, prefix, check_object(value, prefix), name=name if isinstance(name, str) else "")

    def _other(self, where: Where, value: Any, prefix: str) -> Part:
        return self._part(shown(value["kind"]).strip("'"), where, prefix, [], notes=["not ours, and not looked at"])

    def _discovery(self, where: Where, value: Any, prefix: str) -> Part:
        try:
            entries = parse_entries(json.dumps(value).encode())
        except SettingsError as error:
            problems = [split_line(problem)[1] for problem in error.problems]
            return self._part(kinds.DISCOVERY, where, prefix, problems)
        return self._part(kinds.DISCOVERY, where, prefix, [], notes=[f"{len(entries)} endpoints"])

    def _adapters(self, where: Where, value: Any, prefix: str) -> Part:
        """By itself: that an adapter is of one base model only, is seen where a file has nothing else."""
        problems = []
        notes = []
        try:
            adapters = parse_adapters(json.dumps(value))
            notes = [f"{sum(map(len, adapters.values()))} adapters of {len(adapters)} base models"]
        except SettingsError as error:
            problems = [prefix + split_line(problem)[1] for problem in error.problems]
        return self._part(kinds.ADAPTERS, where, prefix, problems, notes=notes)

    def _endpoints(self, where: Where, value: Any, prefix: str) -> Part:
        documents: Any = [value]
        path = prefix
        if isinstance(value, list):
            documents, path = value, f"{prefix}[{{}}]."
        elif KEY in value:
            documents, path = value[KEY], f"{prefix}{KEY}[{{}}]."
        problems: list[str] = []
        warnings: list[str] = []
        names: set[str] = set()
        for index, document in enumerate(documents if isinstance(documents, list) else ()):
            at = path.format(index)
            try:
                form = read_create(document, at)
                config = form.config
                whole = settled(
                    config.entities or [],
                    config.shares,
                    prefix=f"{at}config.",
                    before=None,
                    most=MOST_ENTITIES,
                    listed_as=config.listed_as,
                )
                delivery = changed({}, config.delivery)
                problems += check(delivery, whole.entities, at)
                warnings += [] if problems else advice_on(delivery, at)
            except SettingsError as error:
                problems += error.problems
                continue
            if form.name in names:
                problems.append(f"{at}name: got {form.name!r}, which is there already; expected a name of its own")
            names.add(form.name)
        if not isinstance(documents, list):
            problems.append(f"{prefix}{KEY}: expected a list of serving endpoints (got {shown(documents)})")
        notes = [] if problems else [f"{len(names)} endpoints; whether a pool serves their models is not known here"]
        return self._part(kinds.ENDPOINTS, where, prefix, problems, warnings=warnings, notes=notes)

    # -- texts in texts --------------------------------------------------------------------------------------------

    def _config_map(self, where: Where, value: dict[str, Any], prefix: str) -> Iterator[Part]:
        if kinds.is_adapters(value):
            yield self._adapters(where, value, prefix)
            return
        found = [
            part
            for path, text in texts_of_map(value.get("data"), f"{prefix}data").items()
            for part in self._text(where, path, text, pickers=False)
        ]
        yield from found or [self._part(kinds.CONFIG_MAP, where, prefix, [], notes=["nothing of ours is in it"])]

    def _values(self, where: Where, value: dict[str, Any]) -> Iterator[Part]:
        found = configs_of_values(value)
        some = found.texts or found.maps
        if found.problems or found.warnings or not some:
            notes = [] if some else ["no picker config is in it, so the chart's own counts"]
            yield self._part(kinds.VALUES, where, "", found.problems, warnings=found.warnings, notes=notes)
        for path, config in found.maps.items():
            yield self._picker(where, config, f"{path}.")
        for path, text in found.texts.items():
            yield from self._text(where, path, text, pickers=True)

    def _text(self, where: Where, path: str, text: str, *, pickers: bool) -> Iterator[Part]:
        """A text inside of a document. It must be a picker's config, or may be none of our affair."""
        first = text_in(where.document, self.lines, path, text)
        try:
            documents = load_documents(text)
        except SettingsError as error:
            if pickers:
                yield Part(PICKER, path, None, Where(Document(None, ""), path, first).locate_all(error.problems))
            return
        if pickers and not documents:
            yield Part(PICKER, path, None, Where(Document(None, ""), path, first).locate_all(["there is nothing in it"]))
        inside = _Checker(self.allow_missing, text.splitlines())
        for document in documents:
            kind = kinds.kind_of(document.value)
            if pickers and kind != PICKER:
                problem = f"expected a picker's config, with kind: {PICKER}"
                yield Part(PICKER, path, None, Where(document, path, first).locate_all([problem]))
            elif kind not in (None, kinds.OTHER_OBJECT, kinds.VALUES, kinds.ADAPTERS):
                yield from inside._value(Where(document, path, first), document.value, "")
