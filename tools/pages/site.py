#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The documentation as one HTML site with search:  tools/pages/site.py PAGES OUTPUT   (make docs)

PAGES is the folder of `make pages`. README.md, docs/*.md and docs/distworker.rst go through pandoc, the manual pages
through mandoc, examples are shown as they are. Links between pages and their anchors are checked; one that leads nowhere
is an error. Nothing is loaded from elsewhere, so that the site works from a folder.
"""
import html
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys

import summaries

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
# In the order of the menu; what is not here comes at the end.
ORDER = ["index", "getting-started", "newcomer", "model", "runs", "recordings", "python", "chips", "spaces", "howto", "hosts", "containers", "tools", "tracing",
         "troubleshooting", "performance", "machines", "device", "architecture", "contributing", "changelog"]
STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --paper: #fff; --line: #d7dce5; --link: #0b57a4; --code: #f3f5f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dde3ee; --paper: #161a22; --line: #333b4a; --link: #7db7f2; --code: #1f2530; } }
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, sans-serif; display: flex }
nav { width: 15em; flex: none; padding: 1em; border-right: 1px solid var(--line); position: sticky; top: 0; height: 100vh; overflow: auto }
nav a { display: block; padding: .1em 0; text-decoration: none } nav a.here { font-weight: 600 }
nav input { width: 100%; padding: .4em; margin-bottom: .6em; font: inherit }
img { max-width: 100% }
main { flex: 1; min-width: 0; max-width: 60em; padding: 1em 2.5em 4em }
a { color: var(--link) } h1, h2, h3 { line-height: 1.25 }
pre { background: var(--code); padding: .8em 1em; overflow: auto; border-radius: 4px; font-size: 14px; line-height: 1.4 }
code { background: var(--code); padding: 0 .2em; border-radius: 3px; font-size: .92em } pre code { padding: 0; background: none }
table { border-collapse: collapse; display: block; overflow: auto } th, td { border: 1px solid var(--line); padding: .3em .6em; text-align: left; vertical-align: top }
#found a { font-size: .9em } #found:not(:empty) { border-bottom: 1px solid var(--line); margin-bottom: .6em; padding-bottom: .6em }
@media (max-width: 50em) { body { display: block } nav { width: auto; height: auto; position: static; border: 0 } main { padding: 1em } }
"""
SEARCH = """
const field = document.getElementById("search"), found = document.getElementById("found");
field.addEventListener("input", () => {
  const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
  found.replaceChildren();
  if (!words.length) return;
  PAGES.map(page => {
    let score = 0;
    for (const word of words) {
      const inTitle = page.t.toLowerCase().includes(word), inText = page.x.includes(word);
      if (!inTitle && !inText) return [0, page];
      score += (inTitle ? 20 : 0) + Math.min(page.x.split(word).length, 10);
    }
    return [score, page];
  }).filter(entry => entry[0]).sort((a, b) => b[0] - a[0]).slice(0, 15).forEach(entry => {
    const link = document.createElement("a");
    link.textContent = entry[1].t;
    link.href = ROOT + entry[1].u;
    found.append(link);
  });
});
"""


def run(*command, text=None):
    return subprocess.run(command, check=True, input=text, capture_output=True, text=True).stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Reader(html.parser.HTMLParser):
    """Words, anchors and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.anchors, self.links, self.pictures = [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key == "id":
                self.anchors.add(value)
            elif (key, tag) == ("href", "a"):
                self.links.append(value)
            elif (key, tag) == ("src", "img"):
                self.pictures.append(value)

    def handle_data(self, data):
        self.words.append(data)


def menu_name(name, body):
    title = re.search(r"<h1[^>]*>(.*?)</h1>", body, re.S)
    return re.sub(r"<.*?>|\s+", " ", title.group(1)).strip() if title else name


def convert(path, form):
    body = run("pandoc", "-f", form, "-t", "html5", "--wrap=none", "--no-highlight", text=read(path))
    # Links to pages of this folder, and to sources, which are named and not linked.
    body = re.sub(r'href="(?:docs/)?(?!https?:)([\w-]+)\.md', r'href="\1.html', body)
    body = re.sub(r'href="(?:docs/)?distworker\.rst', 'href="device.html', body)
    body = re.sub(r'src="docs/pictures/', 'src="pictures/', body)
    return re.sub(r'href="(?:docs/)?examples/([\w./-]+)"', r'href="examples/\1.html"', body)


def link_code(body, pages, root):
    """`docs/tools.md`, `dw_submit()` and `distworker run` in code lead to their pages."""
    def target(match):
        word = html.unescape(match.group(1))
        page = re.fullmatch(r"(?:docs/)?([\w-]+)\.(?:md|rst)", word)
        call = re.fullmatch(r"(dw_\w+)\(\)", word)
        verb = re.fullmatch(r"distworker ([a-z]+)", word)
        example = re.fullmatch(r"docs/examples/([\w./-]+)", word)
        place = (("device.html" if page.group(1) == "distworker" else f"{page.group(1)}.html") if page else
                 f"man/{call.group(1)}.3.html" if call else f"man/distworker-{verb.group(1)}.1.html" if verb else
                 f"examples/{example.group(1)}.html" if example else None)
        return f'<a href="{root}{place}">{match.group(0)}</a>' if place in pages else match.group(0)

    parts = re.split(r"(<pre.*?</pre>|<a .*?</a>)", body, flags=re.S)
    return "".join(part if part.startswith(("<pre", "<a ")) else re.sub(r"<code>([^<]*)</code>", target, part) for part in parts)


def collect(manuals):
    pages = {"index.html": convert(os.path.join(TOP, "README.md"), "gfm")}
    docs = os.path.join(TOP, "docs")
    for name in sorted(os.listdir(docs)):
        if name.endswith(".md"):
            pages[f"{name[:-3]}.html"] = convert(os.path.join(docs, name), "gfm")
    pages["device.html"] = convert(os.path.join(docs, "distworker.rst"), "rst")
    for folder, _, names in os.walk(os.path.join(docs, "examples")):
        for name in sorted(names):
            if name.endswith((".c", ".cc", ".py", ".h")):
                path = os.path.relpath(os.path.join(folder, name), docs)
                pages[f"{path}.html"] = f"<h1>{path}</h1><pre><code>{html.escape(read(os.path.join(folder, name)))}</code></pre>"
    for name in sorted(os.listdir(manuals)):
        if re.search(r"\.[1347]$", name):
            body = run("mandoc", "-T", "html", "-O", "fragment,man=%N.%S.html", os.path.join(manuals, name))
            title = f"{name[:-2]}({name[-1]})"
            pages[f"man/{name}.html"] = f"<h1>{title}</h1>" + re.sub(r"<(/?)h1 class", r"<\1h2 class", body).replace("</h1>\n<p", "</h2>\n<p")
    # Pages of the system are named, and not linked.
    for path in pages:
        if path.startswith("man/"):
            pages[path] = re.sub(r'<a class="Xr" href="([^"]+)"[^>]*>(.*?)</a>',
                                 lambda found: found.group(0) if f"man/{found.group(1)}" in pages else found.group(2), pages[path])
    sections = {"1": "Commands", "3": "Calls", "4": "Device", "7": "Overview"}
    listing = "<h1>Manual pages</h1>"
    for section, title in sections.items():
        listing += f"<h2>{title}</h2><ul>"
        for path in sorted(pages):
            if path.startswith("man/") and path.endswith(f".{section}.html"):
                name = path[4:-7]
                said = summaries.SUMMARIES.get(name) or re.search(r'class="Nd"[^>]*>(.*?)</', pages[path], re.S)
                said = said if isinstance(said, str) else said.group(1) if said else ""
                listing += f'<li><a href="{path}">{name}</a> {html.escape(html.unescape(said))}</li>'
        listing += "</ul>"
    pages["manual.html"] = listing
    return pages


def menu(pages, here, root):
    tops = [path for path in pages if "/" not in path]
    tops.sort(key=lambda path: (ORDER.index(path[:-5]) if path[:-5] in ORDER else len(ORDER), path))
    entries = [f'<a href="{root}{path}"{" class=here" if path == here else ""}>{menu_name(path[:-5], pages[path])}</a>' for path in tops]
    return '<input id="search" type="search" placeholder="Search" aria-label="Search"><div id="found"></div>' + "".join(entries)


def check_links(made, output):
    """Each relative link of each page leads to a page, and to an anchor that it has; each picture is there."""
    lost = []
    for path, reader in made.items():
        lost += [f"{path}: there is no picture {name}" for name in reader.pictures
                 if not os.path.exists(os.path.join(output, os.path.dirname(path), name))]
        for link in reader.links:
            if re.match(r"[a-z]+:", link):
                continue
            place, _, anchor = link.partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(path), place)) if place else path
            if target not in made:
                lost.append(f"{path}: {link}: there is no {target}")
            elif anchor and anchor not in made[target].anchors:
                lost.append(f"{path}: {link}: {target} has no #{anchor}")
    return lost


def main():
    manuals, output = sys.argv[1:]
    for program in ("pandoc", "mandoc"):
        if not shutil.which(program):
            sys.exit(f"{program} is not there: apt-get install {program}")
    pages = collect(manuals)
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(os.path.join(TOP, "docs", "pictures"), os.path.join(output, "pictures"))
    made, index = {}, []
    for path, body in pages.items():
        root = "../" * path.count("/")
        body = link_code(body, pages, root)
        title = menu_name(path, body)
        text = (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
                f'<title>{title} - distworker</title><link rel="stylesheet" href="{root}style.css">'
                f'<body><nav>{menu(pages, path, root)}</nav><main>{body}</main>'
                f'<script>const ROOT = "{root}";</script><script src="{root}pages.js"></script><script src="{root}search.js"></script>')
        os.makedirs(os.path.join(output, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(output, path), "w", encoding="utf-8") as file:
            file.write(text)
        made[path] = Reader(text)
        words = re.sub(r"\s+", " ", " ".join(Reader(body).words)).lower()
        index.append({"t": title, "u": path, "x": words})
    for name, text in (("style.css", STYLE), ("search.js", SEARCH), ("pages.js", f"const PAGES = {json.dumps(index, ensure_ascii=False)};")):
        with open(os.path.join(output, name), "w", encoding="utf-8") as file:
            file.write(text)
    lost = check_links(made, output)
    for line in lost:
        print(line, file=sys.stderr)
    print(f"{output}/index.html: {len(made)} pages, {sum(len(reader.links) for reader in made.values())} links, {len(lost)} lead nowhere")
    sys.exit(bool(lost))


main()
