#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Manual pages from the sources that they are about:  tools/pages/manual.py FOLDER

Section 3 has a page for each call of the public headers, made from the comment in front of it; section 4 is
docs/distworker.rst; distworker(7) is the head of README.md and of distworker.h. The pages of section 1, and
distworker-environment(7), come from `distworker manual`.
"""
import datetime
import os
import re
import sys

import mdoc
from summaries import SUMMARIES

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
INCLUDE = os.path.join(TOP, "lib", "include", "distworker")
HEADERS = sorted(name.removesuffix(".h") for name in os.listdir(INCLUDE) if name.endswith(".h"))


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


def release_day():
    """Of the first version in docs/changelog.md."""
    day = datetime.date.fromisoformat(re.search(r"^## [0-9.]+ \((.*)\)$", read("docs/changelog.md"), re.M).group(1))
    return f"{day:%B} {day.day}, {day.year}"


DAY = release_day()


def comment_text(comment):
    """Without its signs; paragraphs have an empty line between them, and a list's items lines of their own."""
    pieces = re.findall(r"/\*+ ?(.*?)\s*\*/", comment, re.S)
    return "\n\n".join(re.sub(r"^[ \t]*\* ?", "", piece, flags=re.M).strip("\n") for piece in pieces)


def paragraphs(text):
    """Paragraphs as lines of mdoc; lines that are set in by two blanks or more are kept as they are."""
    made = []
    for number, block in enumerate(re.split(r"\n\s*\n", text)):
        if all(row.startswith("  ") for row in block.split("\n")):
            made += mdoc.literal(block)
            continue
        if number:
            made.append(".Pp")
        items = re.split(r"\n(?= +-)", block)
        made += mdoc.lines(items[0])
        if len(items) > 1:
            made.append(".Bl -bullet")
            for item in items[1:]:
                made += [".It"] + mdoc.lines(item.strip().lstrip("-"))
            made.append(".El")
    return made


class Call:
    def __init__(self, header, comment, declaration, shared):
        self.header, self.comment, self.shared = header, comment, shared
        self.declaration = re.sub(r"\s+", " ", declaration)
        self.name = re.search(r"\b(dw_\w+)\(", self.declaration).group(1)
        self.before = None

    def parts(self):
        """Type, arguments."""
        text = re.sub(r" ?__attribute__\(\(.*\)\)", "", self.declaration)
        found = re.match(r"DW_API (.*?)\b" + self.name + r"\((.*)\);$", text)
        depth, arguments, word = 0, [], ""
        for letter in found.group(2):
            depth += (letter == "(") - (letter == ")")
            if letter == "," and not depth:
                arguments.append(word.strip())
                word = ""
            else:
                word += letter
        return found.group(1).strip(), arguments + [word.strip()]


def read_calls():
    calls = []
    for header in HEADERS:
        comment, last = "", None
        text = read(f"lib/include/distworker/{header}.h")
        for match in re.finditer(r"^/\*.*?\*/|^DW_API [^;]*;|^(?:struct|enum) \w+ \{(?:[^\n]*\};|.*?^\};)|^[ \t]*$", text, re.M | re.S):
            piece = match.group(0)
            if piece.startswith("/*"):
                if "SPDX-" in piece:
                    last = None
                elif not re.match(r"/\* -{3}", piece):
                    # Two comments in a row belong together.
                    comment = piece if last != "comment" else comment + "\n" + piece
                    last = "comment"
            elif piece.startswith("DW_API"):
                call = Call(header, comment, piece, last == "call")
                call.before = calls[-1] if calls else None
                calls.append(call)
                last = "call"
            elif piece.strip():
                last = None
                # A comment in front of a struct is the struct's, unless the call after it has none.
                if re.match(r"(?:struct|enum) \w+ \{", piece):
                    continue
            else:
                comment, last = (comment, "gap") if last in ("comment", "gap") else ("", None)
    return calls


STRUCTS = {}
for name in HEADERS:
    for found in re.finditer(r"^struct (\w+) \{.*?^\};", read(f"lib/include/distworker/{name}.h"), re.M | re.S):
        STRUCTS[found.group(1)] = found.group(0)


def threads():
    """Of the tables of threads: pattern, what it says."""
    table = []
    for header in HEADERS:
        names = []
        for line in read(f"lib/include/distworker/{header}.h").split("\n"):
            row = re.match(r" \*   ((?:dw_\w+\*?(?:, |,$)?)+)(?:  +(.*))?$", line)
            more = re.match(r" \* {20,}(\S.*)$", line)
            if row:
                if row.group(2) and names and names[-1][1] is not None:
                    names = []
                names += [[word, None] for word in re.findall(r"dw_\w+\*?", row.group(1))]
                if row.group(2):
                    for entry in names:
                        entry[1] = row.group(2)
                    table += names
            elif more and names and names[-1][1]:
                for entry in names:
                    entry[1] += " " + more.group(1)
                # An entry is the same list that the table has.
            else:
                names = []
    return table


THREADS = threads()


def thread_of(name):
    fitting = [said for pattern, said in THREADS
               if pattern == name or pattern.endswith("*") and name.startswith(pattern[:-1])]
    exact = [said for pattern, said in THREADS if pattern == name]
    return (exact or fitting or [""])[0]


def summary(text, name):
    if name in SUMMARIES:
        return SUMMARIES[name]
    plain = re.sub(r"\s*\([^()]+\)", "", re.sub(r"\s+", " ", text).replace("()", "\0"))
    first = re.split(r"(?<=[^.])[.;:](?:\s|$)", plain)[0].strip().replace("\0", "\\&()")
    if not 10 < len(first) < 70:
        # The test wants a line in summaries.py then.
        first = f"{first[:60]} …"
    return first[0].lower() + first[1:] if not first[:2].isupper() else first


def call_page(call, calls):
    text = comment_text(call.comment)
    kind, arguments = call.parts()
    page = mdoc.head(call.name, 3, summary(text, call.name), DAY)
    page += [".Sh LIBRARY", "libdistworker (\\-ldistworker)", ".Sh SYNOPSIS",
             f".In distworker/{'chip' if call.header == 'chip' else 'distworker'}.h", f".Ft \"{kind}\"", f".Fo {call.name}"]
    page += [f".Fa \"{argument}\"" for argument in arguments] + [".Fc", ".Sh DESCRIPTION"]
    page += paragraphs(text) if text else [f"See the head of distworker/{call.header}.h."]
    related = {name for name in re.findall(r"\b(dw_\w+)\(", text) if name != call.name}
    if re.match(r"(?:The same|As above|Its |It )", text) or "as above" in text.lower():
        if call.before:
            related.add(call.before.name)
            page += [".Pp", "The page before this one is", f".Xr {call.before.name} 3 ."]
    used = [name for name in re.findall(r"struct (\w+) \*", ", ".join(arguments)) if name in STRUCTS]
    for name in dict.fromkeys(used):
        page += [".Ss struct " + name] + mdoc.literal(STRUCTS[name])
    if kind == "int":
        page += [".Sh RETURN VALUES", "A negative errno is an error, which"]
        page += [".Xr dw_strerror_last 3", "describes; any other value is success."] if call.name != "dw_strerror_last" else []
        related.add("dw_strerror_last")
    said = thread_of(call.name)
    if said:
        page += [".Sh THREADS"] + mdoc.lines(said[0].upper() + said[1:].rstrip(".") + ".")
        page += ["See", ".Xr distworker 7", "for forks and for conventions that all calls have."]
    known = {other.name for other in calls}
    page += [".Sh SEE ALSO"] + mdoc.references(related & known - {call.name}, 3)
    if related & known - {call.name}:
        page[-1] += " ,"
    return page + [".Xr distworker 7"]


# ------------------------------------------------------------------------------------------- 4

def inline(text):
    return re.sub(r"(?<!\w)\*([^*]+)\*(?!\w)", r"\1", re.sub(r"``([^`]+)``", r"\1", text))


def table(rows):
    """A simple table as a list: the first column is the item, the others follow, with their headings."""
    border = rows[0]
    columns = [found.span() for found in re.finditer(r"=+", border)]
    bars = [number for number, row in enumerate(rows) if row == border]
    headings = [rows[1][begin:].split("  ")[0].strip() if number else "" for number, (begin, _) in enumerate(columns)]
    body = rows[bars[1] + 1:bars[2]] if len(bars) > 2 else rows[1:bars[1]]
    if len(bars) < 3:
        headings = ["" for _ in columns]
    items = []
    for row in body:
        cells = [row[begin:None if number == len(columns) - 1 else end].strip() for number, (begin, end) in enumerate(columns)]
        if cells[0]:
            items.append(cells)
        else:
            items[-1] = [f"{above} {cell}".strip() for above, cell in zip(items[-1], cells)]
    made = [".Bl -tag -width Ds"]
    for first, *others in items:
        said = [f"{heading} {cell}".strip() if heading in ("becomes", "by") else cell for heading, cell in zip(headings[1:], others)]
        made += [".It " + mdoc.escape(inline(first))] + mdoc.lines(inline(", ".join(said)) + ".")
    return made + [".El"]


def inside_item(block):
    """A block of an item: a paragraph, a table, or a list of its own."""
    rows = [row[1:] for row in block.split("\n")]
    if rows[0].startswith("==="):
        return table(rows)
    if all(row.startswith("\t") for row in rows):
        return mdoc.literal(inline("\n".join(row[1:] for row in rows)))
    if not any(row.startswith("\t") for row in rows):
        return [".Pp"] + mdoc.lines(inline(" ".join(rows)))
    made, text = [".Bl -tag -width Ds"], []
    for row in rows:
        if row.startswith("\t"):
            text.append(row.strip())
            continue
        made += mdoc.lines(inline(" ".join(text))) if text else []
        text = []
        made.append(".It " + mdoc.escape(inline(row)))
    return made + mdoc.lines(inline(" ".join(text))) + [".El"]


def device_page():
    page = mdoc.head("distworker", 4, "mailboxes in shared memory, and a way to wait for each other", DAY)
    page += [".Sh DESCRIPTION"]
    text = read("docs/distworker.rst").split("===============\n", 2)[2]
    in_list = False
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        rows = block.split("\n")
        if len(rows) >= 2 and re.fullmatch(r"[=-]{3,}", rows[1]) and len(rows[1]) >= len(rows[0]):
            if in_list:
                page.append(".El")
                in_list = False
            page.append((".Sh " + rows[0].upper()) if rows[1][0] == "=" else ".Ss " + rows[0])
            rows = rows[2:]
            if not rows:
                continue
        if not rows[0].startswith("\t") and len(rows) > 1 and rows[1].startswith("\t"):
            if not in_list:
                page.append(".Bl -tag -width Ds")
                in_list = True
            page.append(".It " + mdoc.escape(inline(rows[0])))
            page += mdoc.lines(inline(" ".join(rows[1:])))
        elif rows[0].startswith("\t"):
            page += inside_item("\n".join(rows))
        else:
            if in_list:
                page.append(".El")
                in_list = False
            if rows[0].startswith("==="):
                page += table(rows)
            else:
                if not page[-1].startswith((".Sh", ".Ss")):
                    page.append(".Pp")
                page += mdoc.lines(inline(" ".join(rows)))
    if in_list:
        page.append(".El")
    return page + [".Sh FILES", ".Bl -tag -width Ds", ".It Pa /dev/distworker", "The device of the module.", ".El",
                   ".Sh SEE ALSO", ".Xr distworker 1 ,", ".Xr distworker 7"]


# ------------------------------------------------------------------------------------------- 7

def overview_page(calls):
    page = mdoc.head("distworker", 7, "a hierarchy of workers that drives accelerator chips", DAY)
    readme = read("README.md")
    page += [".Sh DESCRIPTION"]
    intro = readme.split("# distworker\n", 1)[1].split("\n```", 1)[0].strip()
    page += paragraphs(re.sub(r"^- ", "  - ", re.sub(r"\n\n- ", "\n  - ", intro), flags=re.M).replace("`", ""))
    text = comment_text(re.search(r"^/\*\n \* libdistworker.*?\*/", read("lib/include/distworker/distworker.h"),
                                  re.M | re.S).group(0))
    for block in re.split(r"\n\s*\n", text)[1:]:
        if all(row.startswith("  ") for row in block.split("\n")):
            page += mdoc.literal(block)
            continue
        title = re.match(r"([A-Z][a-z]+)[,.]\s(?:for every call below:)?", block)
        if title:
            page.append(f".Sh {title.group(1).upper().replace('NAMES', 'LIMITS OF NAMES')}")
            block = block[title.end():].strip() if not title.group(0).rstrip().endswith(",") else block
        elif not page[-1].startswith(".Sh"):
            page.append(".Pp")
        page += paragraphs(block if block.startswith("dw_") else block[0].upper() + block[1:])
    page += [".Sh CALLS"]
    for header in dict.fromkeys(call.header for call in calls):
        page += [f".Ss distworker/{header}.h"]
        page += mdoc.references({call.name for call in calls if call.header == header}, 3)
    return page + [".Sh SEE ALSO", ".Xr distworker 1 ,", ".Xr distworker 4 ,", ".Xr distworker-environment 7"]


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    calls = read_calls()
    pages = {f"{call.name}.3": call_page(call, calls) for call in calls}
    pages["distworker.4"] = device_page()
    pages["distworker.7"] = overview_page(calls)
    for name, page in pages.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write("\n".join(page) + "\n")


main()
