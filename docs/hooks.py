"""What MkDocs runs while it builds: the command reference and the table of models come from the package itself."""

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from frame_transformer.checkpoints import list_models
from frame_transformer.cli import app

MODELS_MARK = "<!-- models -->"


def command_reference() -> str:
    """Markdown of every command with its arguments and options."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="frame-transformer")
    return get_docs_for_click(obj=command, ctx=context, name="frame-transformer", title="Commands")


def models_table() -> str:
    """Markdown table of the models known by name."""
    lines = ["| name | family | parameters | weights | licence |", "| --- | --- | ---: | --- | --- |"]
    lines += [
        f"| `{info.name}` | {info.family} | {info.parameters:,} | {info.source} | {info.licence} |"
        for info in list_models()
    ]
    return "\n".join(lines)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, "commands.md", content=command_reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return markdown.replace(MODELS_MARK, models_table())
