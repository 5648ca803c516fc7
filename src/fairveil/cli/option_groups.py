"""Groups of options that several commands take: a dataclass whose fields are the options."""

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer, in which a parameter that is a dataclass stands for all of the dataclass's fields.

    typer sees the fields as arguments and options in the place of the parameter; the command is given the dataclass.

    Args:
        command: its parameters, and the fields of their dataclasses, are annotated for typer.

    Raises:
        ValueError: two of the options have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[Parameter] = []
    groups: dict[str, type] = {}
    for parameter in signature(command).parameters.values():
        annotation = hints[parameter.name]
        if is_dataclass(annotation) and isinstance(annotation, type):
            groups[parameter.name] = annotation
            parameters += _options_of(annotation)
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=annotation))

    @wraps(command)
    def grouped(**given: Any) -> None:
        made = {name: group(**{option.name: given.pop(option.name) for option in fields(group)})
                for name, group in groups.items()}  # fmt: skip
        command(**made, **given)

    grouped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    grouped.__dict__["__signature__"] = Signature(parameters)
    return grouped


def _options_of(group: type) -> list[Parameter]:
    """The fields of a dataclass as parameters of a command."""
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            option.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if option.default is MISSING else option.default,
            annotation=hints[option.name],
        )
        for option in fields(group)
    ]
