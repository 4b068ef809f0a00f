#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""
tools/pages/pictures.py BUILD [NAME...]: the pictures of docs/pictures, made anew: run, top, trace, site.

Needs chromium and tmux; for `trace` Chrome's trace viewer, which comes with the sources of Go (Debian 12: golang-1.19-src).
`site` shows BUILD/docs, the site of `make docs`. It prints what the viewer has made of the trace. Look at each picture
before it is committed.
"""
import base64
import functools
import glob
import html
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import zlib

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDER = os.path.join(TOP, "docs", "pictures")
VIEWER = "/usr/share/go-*/src/*/trace/**/trace_viewer_full.html"
LICENCE = b"SPDX-License-Identifier: LGPL-2.1-only OR MIT"
COLOURS = {"31": "#c01c28", "32": "#26732a", "33": "#8a5a00"}


class Browser:
    """Chromium without a window, driven over its pipe."""

    def __init__(self, width, height):
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        self.folder = tempfile.TemporaryDirectory()

        def descriptors():
            ends = os.dup(commands), os.dup(answers)
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
             f"--window-size={width},{height}", f"--user-data-dir={self.folder.name}", "about:blank"],
            preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.number, self.rest, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def message(self):
        while b"\0" not in self.rest:
            more = os.read(self.answers, 1 << 20)
            if not more:
                sys.exit("chromium has ended")
            self.rest += more
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.commands, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def script(self, text):
        """The value of an expression; one that is a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            sys.exit(f"{text}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def show(self, address):
        self.events = []
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())

    def picture(self, name, width, height):
        # Two frames: the page has been drawn then.
        self.script("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png",
                                          clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})["data"])
        # Its licence, in a chunk of text behind the head, which has 33 bytes.
        text = b"tEXtCopyright\0" + LICENCE
        chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
        with open(os.path.join(FOLDER, f"{name}.png"), "wb") as file:
            file.write(data[:33] + chunk + data[33:])
        print(f"docs/pictures/{name}.png: {len(data) // 1024} KiB")

    def close(self):
        self.session = None
        os.write(self.commands, b'{"id":0,"method":"Browser.close"}\0')
        self.process.wait()


# ------------------------------------------------------------------- terminals

def page_of(screen):
    """What tmux has captured, with its sequences, as HTML."""
    lines = []
    for line in screen.rstrip("\n").split("\n"):
        out, styles = "", {}
        for text, codes in re.findall(r"([^\033]*)(?:\033\[([\d;]*)m)?", line):
            style = "".join(styles.values())
            out += f'<span style="{style}">{html.escape(text)}</span>' if style else html.escape(text)
            for code in (codes or "").split(";"):
                if code == "0":
                    styles = {}
                elif code == "1":
                    styles["bold"] = "font-weight:bold;"
                elif code == "7":
                    styles["reverse"] = "background:#333;color:#fff;"
                elif code in COLOURS:
                    styles["colour"] = f"color:{COLOURS[code]};"
                else:
                    for key, ends in (("bold", "22"), ("reverse", "27"), ("colour", "39")):
                        if code == ends:
                            styles.pop(key, None)
        lines.append(out)
    return ("<!DOCTYPE html><meta charset=utf-8><style>body{margin:0;background:#fff}"
            "pre{margin:0;padding:12px;font:13px/17px 'DejaVu Sans Mono',monospace;color:#222;display:inline-block}"
            "</style><pre>" + "\n".join(lines) + "</pre>")


class Terminal:
    def __init__(self, work, command, columns, lines):
        self.tmux = ["tmux", "-S", f"{work}/tmux", "-f", "/dev/null"]
        os.mkfifo(f"{work}/output")
        self.run("new-session", "-d", "-x", str(columns), "-y", str(lines), f"read _; clear; {command}; read _")
        self.run("pipe-pane", f"exec cat >{work}/output")
        self.output = os.open(f"{work}/output", os.O_RDONLY)
        self.run("send-keys", "Enter")

    def run(self, *words):
        return subprocess.run([*self.tmux, *words], stdout=subprocess.PIPE, check=True, text=True).stdout

    def wait(self, pattern):
        """Until the screen has it: the screen with its colours."""
        while not re.search(pattern, self.run("capture-pane", "-p"), re.M):
            if not os.read(self.output, 65536):
                sys.exit(f"the terminal has ended without {pattern}")
        return self.run("capture-pane", "-e", "-p")

    def close(self):
        self.run("kill-server")


def picture_of(screen, name):
    browser = Browser(1400, 900)
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as file:
        file.write(page_of(screen))
        file.flush()
        browser.show(f"file://{file.name}")
        width, height = browser.script("(e => [Math.ceil(e.width), Math.ceil(e.height)])"
                                       "(document.querySelector('pre').getBoundingClientRect())")
        browser.picture(name, width, height)
    browser.close()


def run(build, work):
    # As a user sees it, who has it in PATH.
    os.environ["PATH"] = f"{build}:{os.environ['PATH']}"
    words = "distworker run digits --nodes 2 --chips 2 --idle-seconds 2"
    terminal = Terminal(work, f"echo '$ {words}'; {words} --progress none", 116, 38)
    screen = terminal.wait(r"node1/chip1 .*")
    picture_of(screen, "run")
    terminal.close()


def top(build, work):
    tree = subprocess.Popen([f"{build}/distworker", "run", "digits", "--nodes", "2", "--chips", "2", "--subs", "1", "--progress",
                             "none", "--", "--epochs", "5000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Both processes live at the same time: the tree is there when the screen finds it.
    terminal = Terminal(work, f"until {build}/distworker top --interval 1 {tree.pid} 2>/dev/null; do :; done", 112, 16)
    terminal.wait(r"chip1 .* [1-9]\d* +\d+ +\d+ ")
    terminal.run("send-keys", "Down", "Down")
    picture_of(terminal.wait(r"^distworker top(?s:.*)chip1 +runs.*"), "top")
    tree.terminate()
    tree.wait()
    terminal.close()


# ----------------------------------------------------------------------- pages

def serve(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


# As `go tool trace` embeds the viewer, with a promise of the model.
PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><script src="/viewer/webcomponents.min.js"></script>
<link rel="import" href="/viewer/trace_viewer_full.html">
<style>html,body,#view{margin:0;padding:0;width:100%;height:100%;overflow:hidden}
tr-ui-b-info-bar-group,tr-ui-b-info-bar{display:none !important}</style>
<script>
var loaded = new Promise(function(done, fail) {
  document.addEventListener('WebComponentsReady', function() {
    var container = document.createElement('track-view-container');
    container.id = 'track_view_container';
    view = document.createElement('tr-ui-timeline-view');
    view.track_view_container = container;
    Polymer.dom(view).appendChild(container);
    view.id = 'view';
    view.globalMode = true;
    Polymer.dom(document.body).appendChild(view);
    fetch('/trace.json').then(r => r.text()).then(function(text) {
      model = new tr.Model();
      return new tr.importer.Import(model, new tr.importer.ImportOptions()).importTracesWithProgressDialog([text]);
    }).then(function() { view.model = model; view.viewTitle = 'distworker'; done(); }, fail);
  });
});
</script></head><body></body></html>"""

# Of the viewer's own model: what it has found, and what it could not make sense of.
FOUND = """loaded.then(() => JSON.stringify({
  threads: model.getAllThreads().length,
  slices: model.getAllThreads().reduce((n, t) => n + t.sliceGroup.length, 0),
  asynchronous: model.getAllThreads().reduce((n, t) => n + t.asyncSliceGroup.length, 0),
  arrows: model.flowEvents.length, tracks: model.getAllCounters().length,
  warnings: model.importWarnings.reduce((m, w) => (m[w.type] = (m[w.type] || 0) + 1, m), {})}))"""

# One task of a node, wide, and a task of a chip below it, selected.
ZOOM = """(function() {
  const lane = name => model.getAllThreads().filter(t => t.name == name)[0].sliceGroup.slices;
  const wide = lane('pod0/node0').filter(s => s.title == 'gradient')[2];
  const transform = view.trackView.viewport.currentDisplayTransform.clone();
  transform.xSetWorldBounds(wide.start - 0.3, wide.end + 1.2, 940);
  view.trackView.viewport.setDisplayTransformImmediately(transform);
  view.brushingStateController.changeSelectionFromTimeline(new tr.model.EventSet(
    [lane('pod0/node0/chip0').filter(s => s.start > wide.start && s.title == 'backward')[0]]));
})()"""


def trace(build, work):
    viewers = sorted(glob.glob(VIEWER, recursive=True))
    if not viewers:
        sys.exit(f"{VIEWER} is not there: apt-get install golang-1.19-src")
    os.symlink(os.path.dirname(viewers[-1]), f"{work}/viewer")
    with open(f"{work}/index.html", "w", encoding="ascii") as file:
        file.write(PAGE)
    # One epoch is not enough to be accurate: its status does not matter here.
    subprocess.run([f"{build}/distworker", "trace", "-o", f"{work}/trace.json", "digits", "--nodes", "2", "--chips", "2", "--subs",
                    "1", "--quiet", "--", "--epochs", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    browser = Browser(1200, 860)
    browser.show(serve(work))
    print(browser.script(FOUND))
    browser.script(ZOOM)
    browser.script("window.dispatchEvent(new Event('resize'))")
    browser.picture("trace", 1200, 740)
    browser.close()


def site(build, _):
    browser = Browser(1100, 640)
    browser.show(serve(f"{build}/docs") + "/tracing.html")
    browser.picture("site", 1100, 640)
    browser.close()


PICTURES = {"run": run, "top": top, "trace": trace, "site": site}

if __name__ == "__main__":
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(PICTURES):
        sys.exit(__doc__)
    os.makedirs(FOLDER, exist_ok=True)
    for wanted in sys.argv[2:] or PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            PICTURES[wanted](os.path.realpath(sys.argv[1]), folder)
