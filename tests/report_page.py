"""A report as a test reads it, and the way it is written for one."""

from html.parser import HTMLParser

from drawn_report import drawn_run, drawn_study

from mihc.report import write_report

VOID = {"meta", "img", "input", "br", "image", "rect", "path"}


class Page(HTMLParser):
    """The page as a test reads it: its elements, its text, and every number with what it says of itself."""

    def __init__(self, html):
        super().__init__()
        self.skeleton, self.numbers, self.open, self.text, self.links = [], [], [], {}, []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.skeleton.append((tag, tuple(sorted(named))))
        self.links += [
            named[name] for name in ("href", "src", "srcset", "action", "xlink:href", "data") if name in named
        ]
        if "data-value" in named:
            self.numbers.append([named["data-value"], named["data-source"], ""])
        if tag not in VOID:
            self.open.append((tag, named.get("id", "")))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for _tag, name in self.open:
            if name:
                self.text[name] = self.text.get(name, "") + data
        if self.numbers and self.open and self.open[-1][0] == "span" and not self.numbers[-1][2]:
            self.numbers[-1][2] = data


def written(folder, tables, study=None, pictures=(), run=None):
    write_report(folder, study=study or drawn_study(), tables=tables, run=run or drawn_run(), pictures=pictures)
    return (folder / "report.html").read_text(encoding="utf-8")


def few_tests(tables):
    """Statistics with few plots, for tests that are not about them."""
    statistics = tables["statistics"]
    of_cd20 = (statistics["population"] == "CD20") & (statistics["tissue_class"] == "tumour")
    keep = (statistics["split"] == "overall") | of_cd20
    return tables | {"statistics": statistics[keep & (statistics["endpoint"] != "OS")].reset_index(drop=True)}
