"""Writes .cog/openapi_schema.json, from which Cog's server checks inputs before our code runs.

`cog build` writes this file into the image. Without Docker, this script makes it from the same
source: the signature of `Predictor.predict`, read without running it.

    python -m scripts.write_openapi_schema [FOLDER]
"""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent

_TYPES: dict[str, dict[str, str]] = {
    "Path": {"type": "string", "format": "uri"},
    "str": {"type": "string"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
}


def input_schemas(source: str) -> dict[str, Any]:
    """The OpenAPI components `Input` and one enum for each input with choices.

    Raises:
        ValueError: a default, bound or choice is no literal, which `cog build` refuses as well.
    """
    properties: dict[str, Any] = {}
    components: dict[str, Any] = {}
    required = []
    arguments = _predict_arguments(source)
    for order, (name, annotation, options) in enumerate(arguments):
        entry: dict[str, Any] = {"title": name.replace("_", " ").title(), "x-order": order}
        entry["description"] = options.get("description", "")
        if "choices" in options:
            components[name] = _TYPES[annotation] | {
                "title": name,
                "description": "An enumeration.",
                "enum": options["choices"],
            }
            entry["allOf"] = [{"$ref": f"#/components/schemas/{name}"}]
        else:
            entry |= _TYPES[annotation]
        for bound, key in (("ge", "minimum"), ("le", "maximum")):
            if bound in options:
                entry[key] = options[bound]
        if "default" in options:
            entry["default"] = options["default"]
        else:
            required.append(name)
        properties[name] = entry
    components["Input"] = {
        "title": "Input",
        "type": "object",
        "properties": properties,
        "required": required,
    }
    return components


def _predict_arguments(source: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, annotation and `Input(...)` options of each argument."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    predict = next(f for f in functions if f.name == "predict").args
    result = []
    for argument, default in zip(predict.args[1:], predict.defaults, strict=True):
        assert isinstance(default, ast.Call) and isinstance(argument.annotation, ast.Name)
        options = {str(k.arg): ast.literal_eval(k.value) for k in default.keywords}
        result.append((argument.arg, argument.annotation.id, options))
    return result


def schema(source: str) -> dict[str, Any]:
    """The whole document."""
    components = input_schemas(source)
    components["Output"] = {"title": "Output", "type": "string", "format": "uri"}
    components["PredictionRequest"] = {
        "title": "PredictionRequest",
        "type": "object",
        "properties": {"input": {"$ref": "#/components/schemas/Input"}},
    }
    components["PredictionResponse"] = {
        "title": "PredictionResponse",
        "type": "object",
        "properties": {
            "input": {"$ref": "#/components/schemas/Input"},
            "output": {"$ref": "#/components/schemas/Output"},
        },
    }
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {},
        "components": {"schemas": components},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=_ROOT)
    folder = parser.parse_args().folder / ".cog"
    folder.mkdir(parents=True, exist_ok=True)
    document = schema((_ROOT / "predict.py").read_text(encoding="utf-8"))
    path = folder / "openapi_schema.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
