"""What the site holds beyond its Markdown: equations, the commands, the studies, and published against ours.

MkDocs calls the functions whose names begin with `on_`. Everything is worked out while the site is built, so that a
reader's browser need load nothing: equations become MathML, tables become HTML.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from fairveil.base.errors import FairveilError

sys.path.insert(0, str(Path(__file__).parent))

from measured import every_study, published_against_ours  # the neighboring file, found by the line above

RECORDS = "FAIRVEIL_STUDIES"
"""The environment variable that names a folder of records of studies; without it the committed figures are shown."""

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$`(.+?)`\$")
_NUMBER = re.compile(r"\\tag\{([^}]*)\}")
_equations: dict[str, str] = {}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from the code and from records."""
    figures = Path(config.docs_dir) / "results"
    records = Path(os.environ[RECORDS]) if os.environ.get(RECORDS) else None
    try:
        results = published_against_ours(figures, records)
    except FairveilError as error:
        raise PluginError(f"{RECORDS}: {error}") from error
    pages = {
        "reference/commands.md": _commands(),
        "results/studies.md": every_study(),
        "results/index.md": results,
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Set equations aside, so that Markdown sees none of their signs: ```math blocks, and $`…`$ in a line."""
    return _INLINE.sub(_inline, _BLOCK.sub(_block, markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Put the equations where they belong."""
    return re.sub(r"(?:<p>)?(equation-\d+-(?:block|inline))(?:</p>)?", _placed, html)


def _block(found: re.Match[str]) -> str:
    source = found[1].strip()
    number = _NUMBER.search(source)
    label = f'<span class="number">({number[1]})</span>' if number else ""
    mathml = _mathml(_NUMBER.sub("", source), display="block")
    return _set_aside(f'<div class="equation" tabindex="0">{label}{mathml}</div>', "block")


def _inline(found: re.Match[str]) -> str:
    return _set_aside(_mathml(found[1]), "inline")


def _mathml(source: str, display: str = "inline") -> str:
    """MathML of an equation. What the converter does not know it leaves as it stands, which readers would see."""
    mathml = convert(source, display=display)
    if "\\" in mathml:
        raise PluginError(f"The equation {source!r} holds a command that latex2mathml does not know: {mathml}")
    return mathml


def _set_aside(html: str, kind: str) -> str:
    name = f"equation-{len(_equations)}-{kind}"
    _equations[name] = html
    return name


def _placed(found: re.Match[str]) -> str:
    return _equations[found[1]] if found[1].endswith("block") else found[0].replace(found[1], _equations[found[1]])


def _commands() -> str:
    """Every command with its options, from what `--help` says."""
    import typer
    from typer.cli import get_docs_for_click

    from fairveil.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="fairveil"), name="fairveil")
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)  # cut short there, and each follows in full
    text = re.sub(r"^(Example: )(.*)$", r"\1`\2`", text, flags=re.MULTILINE)
    return text.replace("# `fairveil`", "# Commands", 1)
