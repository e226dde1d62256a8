"""The blog's CloudFormation template as Python sees it: for each choice of parameters, what AWS would be asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

FILE: Final = Path(__file__).parents[2] / "examples/flask_blog/deploy/blog.yaml"
GIVEN: Final = {"AllowedCidr": "203.0.113.7/32", "SourceBucket": "my-bucket"}
"""Parameters without a default."""


def load() -> dict[str, Any]:
    """The template, its short forms (!Ref) written out."""
    decode = pytest.importorskip("cfnlint.decode", reason="cfn-lint is not installed (extra dev)")
    template, faults = decode.decode(str(FILE))
    assert faults == []
    plain: dict[str, Any] = json.loads(json.dumps(template))
    return plain


class Stack:
    """The template with parameters chosen: conditions decided, parameters and !If filled in, the rest as it stands."""

    def __init__(self, **parameters: str) -> None:
        template = load()
        defaults = {name: each["Default"] for name, each in template["Parameters"].items() if "Default" in each}
        self._values = {**defaults, **GIVEN, **parameters}
        assert self._values.keys() == template["Parameters"].keys()
        self._conditions = template["Conditions"]
        self.resources: dict[str, Any] = {
            name: {key: self._filled(value) for key, value in each.items()}
            for name, each in template["Resources"].items()
            if self._holds(each.get("Condition"))
        }

    def of_type(self, kind: str) -> dict[str, Any]:
        """Properties of all resources of a type, by their names."""
        return {name: each["Properties"] for name, each in self.resources.items() if each["Type"] == kind}

    def user_data(self, **attributes: str) -> str:
        """The script that the machine runs. ``attributes``: what ``Resource.Attribute`` and references become."""
        text, names = self.resources["App"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"]
        values = {name: self._text(value, attributes) for name, value in names.items()}

        def value_of(found: re.Match[str]) -> str:
            name = found[1]
            return (
                "${" + name[1:] + "}" if name.startswith("!") else values.get(name) or self._reference(name, attributes)
            )

        return re.sub(r"\$\{([^}]+)\}", value_of, text)

    def _text(self, value: Any, attributes: Mapping[str, str]) -> str:
        if isinstance(value, str):
            return value
        ((kind, what),) = value.items()
        if kind == "Fn::GetAtt":
            return self._reference(".".join(what) if isinstance(what, list) else what, attributes)
        assert kind == "Fn::Sub"
        return re.sub(r"\$\{([^}]+)\}", lambda found: self._reference(found[1], attributes), what)

    def _reference(self, name: str, attributes: Mapping[str, str]) -> str:
        if name in self._values:
            return str(self._values[name])
        assert name.startswith("AWS::") or name.split(".")[0] in self.resources, f"{name} does not exist in this stack"
        return attributes.get(name, f"[{name}]")

    def _holds(self, condition: str | Mapping[str, Any] | None) -> bool:
        if condition is None:
            return True
        if isinstance(condition, str):
            return self._holds(self._conditions[condition])
        ((kind, what),) = condition.items()
        if kind == "Condition":
            return self._holds(what)
        if kind == "Fn::And":
            return all(self._holds(each) for each in what)
        assert kind == "Fn::Equals"
        left, right = (self._filled(each) for each in what)
        return bool(left == right)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            filled = [self._filled(each) for each in value]
            return [each for each in filled if each != {"Ref": "AWS::NoValue"}]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"Fn::If"}:
            condition, yes, no = value["Fn::If"]
            return self._filled(yes if self._holds(condition) else no)
        if value.keys() == {"Fn::Select"} and "Fn::Split" in str(value):
            place, split = value["Fn::Select"]
            separator, text = split["Fn::Split"]
            return self._filled(text).split(separator)[place]
        if value.keys() == {"Ref"} and value["Ref"] in self._values:
            return self._values[value["Ref"]]
        return {key: self._filled(each) for key, each in value.items()}
