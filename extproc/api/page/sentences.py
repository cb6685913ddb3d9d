"""Rules, experiments and shadows of an endpoint as sentences, for who does not read documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

_WAYS: Final = {"exact": "is", "equals": "is", "prefix": "begins with", "suffix": "ends with", "one_of": "is one of"}
_DAYS: Final = {
    "mon": "Monday",
    "tue": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
    "sun": "Sunday",
}


class Sentence(NamedTuple):
    """What is decided, under its name."""

    name: str
    text: str


def rules(delivery: Mapping[str, Any]) -> list[Sentence]:
    """The rules, in their order."""
    return [Sentence(rule["name"], _rule(rule)) for rule in delivery.get("rules", ())]


def experiments(delivery: Mapping[str, Any]) -> list[Sentence]:
    """The experiments, in their order."""
    return [Sentence(each["name"], _experiment(each)) for each in delivery.get("experiments", ())]


def shadows(delivery: Mapping[str, Any]) -> list[Sentence]:
    """Who gets copies."""
    found = []
    for each in delivery.get("shadows", ()):
        text = f"A copy of {number(each['percentage'])} % of the requests goes to {each['entity']}; nobody gets its answers."
        found.append(Sentence(each["entity"], text))
    return found


def _rule(rule: Mapping[str, Any]) -> str:
    who = _who(rule.get("match", ()), "Requests")
    if "entity" in rule:
        return f"{who} go to {rule['entity']}."
    if "split" in rule:
        return f"{who} are split: {_shares(rule['split'])}."
    refuse = rule["refuse"]
    message = refuse.get("message")
    return f"{who} are refused with {refuse.get('status', 403)}{f', saying {_quoted(message)}' if message else ''}."


def _experiment(each: Mapping[str, Any]) -> str:
    who = _who(each.get("match", ()), "Users")
    arms = [_arm(arm) for arm in each["arms"]]
    outside = 100 - sum(arm["weight"] for arm in each["arms"])
    text = f"{who} take part: {_list(arms)}"
    text += f"; {outside} % stay outside." if outside else "."
    if each.get("start") or each.get("end"):
        begin = f" from {each['start']}" if each.get("start") else ""
        end = f" until {each['end']}" if each.get("end") else ""
        text += f" It runs{begin}{end}."
    testers = len(each.get("overrides", ()))
    if testers:
        text += f" {testers} {'user is' if testers == 1 else 'users are'} put into an arm by name."
    return text


def _arm(arm: Mapping[str, Any]) -> str:
    where = f"get {arm['entity']}" if arm.get("entity") else "are told apart, and the split decides"
    return f"{arm['weight']} % are {arm['name']} and {where}"


def _who(matches: Sequence[Mapping[str, Any]], all_of_them: str) -> str:
    """The alternatives; each a list of conditions that all must hold."""
    if not matches or any(not match for match in matches):
        return f"All {all_of_them.lower()}"
    alternatives = [_list(_conditions(match)) for match in matches]
    return f"{all_of_them} where " + ", or where ".join(alternatives)


def _conditions(match: Mapping[str, Any]) -> list[str]:
    found = [f"the header {name} {_test(test)}" for name, test in match.get("headers", {}).items()]
    found += [f"the {what} {_test(match[what])}" for what in ("path", "model") if what in match]
    found += [f"the body's {path} {_test(test)}" for path, test in match.get("body", {}).items()]
    for what in ("segments", "regions"):
        names = match.get(what)
        if names:
            one = what.removesuffix("s")
            found.append(f"the {one} is {names[0]}" if len(names) == 1 else f"the {one} is one of {', '.join(names)}")
    if "time" in match:
        found.append(_time(match["time"]))
    if "percentage" in match:
        found.append(f"the user is among {number(match['percentage'])} % of all")
    if "expression" in match:
        found.append(f"{match['expression']} holds")
    return found


def _test(test: Mapping[str, Any]) -> str:
    ((way, value),) = test.items()
    if way == "present":
        return "is there" if value else "is not there"
    if isinstance(value, list):
        return f"{_WAYS[way]} {', '.join(map(_quoted, value))}"
    return f"{_WAYS[way]} {_quoted(value)}"


def _time(time: Mapping[str, Any]) -> str:
    words = []
    if "days" in time:
        words.append("on " + _list([_DAYS[day] for day in time["days"]]))
    if "hours" in time:
        begin, _, end = time["hours"].partition("-")
        words.append(f"from {begin} to {end}")
    if "after" in time:
        words.append(f"after {time['after']}")
    if "before" in time:
        words.append(f"before {time['before']}")
    zone = time.get("timezone", "UTC") if "days" in time or "hours" in time else ""
    return "it is " + " ".join(words) + (f" ({zone})" if zone else "")


def _shares(split: Mapping[str, int]) -> str:
    return _list([f"{share} % to {name}" for name, share in split.items()])


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"“{value}”" if isinstance(value, str) else str(value)


def number(value: float) -> str:
    """Without zeros that say nothing."""
    return f"{value:g}"
