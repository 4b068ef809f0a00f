# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Plain text as lines of mdoc(7): a sentence begins a line, and no line is a macro by accident."""
import re

LINE = 76


def escape(text):
    text = text.replace("\\", "\\e").replace("`", "")
    return re.sub(r"(?<![\w-])--(?=\w)", r"\\-\\-", text)


def width(line):
    """As mandoc counts: it writes "…" as \\[u2026]."""
    return len(line) + 8 * sum(letter > "~" for letter in line)


def lines(text):
    """The words of a paragraph, as lines."""
    made, line = [], ""
    for word in escape(text).split():
        function = re.fullmatch(r"(\w+)\(\)([.,:;)]*)", word)
        if function:
            made += [line] if line else []
            made.append(" ".join([f".Fn {function.group(1)}", *function.group(2)]))
            line = ""
            continue
        word = re.sub(r"(\w)\(\)", r"\1\&()", word)
        if line and width(f"{line} {word}") > LINE:
            made.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        if re.search(r"[^.][.?!]$", line):
            made.append(line)
            line = ""
    if line:
        made.append(line)
    return ["\\&" + line if line[0] in ".'" and not line.startswith(".Fn ") else line for line in made]


def literal(text):
    """Lines as they stand."""
    body = [line.expandtabs(8).rstrip().replace("\\", "\\e") for line in text.strip("\n").split("\n")]
    return [".Bd -literal -offset indent"] + [
        "\\&" + line if line[:1] in (".", "'") else line for line in body] + [".Ed"]


def head(name, section, summary, day):
    return ['.\\" SPDX-License-Identifier: LGPL-2.1-only OR MIT', '.\\" Made by tools/pages/manual.py.',
            f".Dd {day}", f".Dt {name.upper()} {section}", ".Os", ".Sh NAME", f".Nm {name}", f".Nd {summary}"]


def references(names, section):
    names = sorted(names)
    return [f".Xr {name} {section}{' ,' if i + 1 < len(names) else ''}" for i, name in enumerate(names)]
