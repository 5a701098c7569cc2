"""What the site shows that is not written by hand: the help of each command, the notebooks, and the pages that lie at the root of the project."""

import argparse
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
AT_THE_ROOT = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "ARCHITECTURE.md": "architecture.md"}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def on_config(config):
    """Puts the notebooks that there are into the navigation."""
    section = next(entry["Notebooks"] for entry in config.nav if "Notebooks" in entry)
    section += [page for path in NOTEBOOKS if (page := f"notebooks/{path.stem}.md") not in section]
    return config


def on_files(files, config):
    """Adds the pages that are made here."""
    pages = {page: in_docs((ROOT / name).read_text(encoding="utf-8")) for name, page in AT_THE_ROOT.items()}
    pages["reference/command-line.md"] = command_line()
    notebooks = {f"notebooks/{path.stem}.md": notebook(path) for path in NOTEBOOKS}
    pages |= notebooks
    pages["notebooks/index.md"] = contents(notebooks)
    for page, text in pages.items():
        if (rendered := files.get_file_from_path(page)) is not None:
            files.remove(rendered)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_content(html, page, config, files):
    """Keeps a flag in one piece where a line of inline code is broken."""
    def whole(code):
        return re.sub(r"(?<![\w-])--?[\w-]+", r'<span class="flag">\g<0></span>', code[0])

    return re.sub(r"(?<=<code>)[^<]*(?=</code>)", whole, html)


def in_docs(text: str) -> str:
    """A page of the root as one of docs/: its links lead to the pages of the site."""
    def led(match):
        target = match[1]
        for name, page in {"docs/": "", "README.md": "index.md", **AT_THE_ROOT}.items():
            target = page + target.removeprefix(name) if target.startswith(name) else target
        return f"]({target.replace('.ipynb', '.md')})"

    return re.sub(r"\]\(([^):]+)\)", led, text)


def command_line() -> str:
    """The page of all commands, from the parser that the command line uses."""
    from tfcnn.cli import COMMANDS
    from tfcnn.parser import make_parser

    parser = make_parser(COMMANDS)
    choices = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {action.dest: action.help for action in choices._choices_actions}
    lines = ["# Command line", "",
             "Every command ends with exit code 0 if it is done, 1 if the work failed or fell below what was asked, 2 for bad usage, "
             "130 after Ctrl-C or SIGTERM. "
             "`tfcnn COMMAND --help` prints what stands here, which is made of the same parser.", "",
             "| command | |", "| --- | --- |", *(f"| [`tfcnn {name}`](#tfcnn-{name}) | {_escaped(text)} |" for name, text in summaries.items()), ""]
    for name, command in choices.choices.items():
        lines += [f"## tfcnn {name}", "", f"{_escaped(command.description[0].upper() + command.description[1:])}.", ""]
        formatter = command._get_formatter()
        shared = [action for action in command._actions if action.dest in ("json", "verbose")]
        for action in [action for action in command._actions if action not in shared] + shared:
            if not isinstance(action, argparse._HelpAction):
                lines += [f"`{_written(action)}`", f":   {_escaped(formatter._expand_help(action))}", ""]
        if command.epilog:
            lines += ["```text", command.epilog, "```", ""]
    return "\n".join(lines)


def _written(action) -> str:
    """How an argument is typed."""
    metavar = action.metavar or action.dest.upper()
    if not action.option_strings:
        return f"[{metavar}]" if action.nargs == "?" else f"{metavar}..." if action.nargs == "+" else metavar
    value = "" if action.nargs == 0 else " ".join(metavar) if isinstance(metavar, tuple) else f"{metavar}..." if action.nargs == "+" else metavar
    return f"{', '.join(action.option_strings)} {value}".strip()


def _escaped(text: str) -> str:
    """Help as text of a page: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def notebook(path: Path) -> str:
    """A notebook as a page: as `make notebooks` has executed it, or else its cells alone."""
    rendered = ROOT / "docs" / "notebooks" / f"{path.stem}.md"
    if rendered.exists():
        text = rendered.read_text(encoding="utf-8")
    else:
        from nbconvert import MarkdownExporter

        text, _ = MarkdownExporter(template_file=str(ROOT / "notebooks" / "page.md.j2")).from_filename(str(path))
    return text


def contents(pages: dict[str, str]) -> str:
    """The page that leads to the notebooks."""
    lines = ["# Notebooks", "", "They lie in `notebooks/`, stored without output; `make docs` executes each from top to bottom before it builds this site.", ""]
    for page, text in pages.items():
        title = next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), Path(page).stem)
        lines.append(f"- [{title}]({Path(page).name})")
    return "\n".join([*lines, ""])
