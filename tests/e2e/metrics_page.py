"""The page of /metrics, read as strictly as the text format is written.

    page = read(daemon)              # {'name{label="x"}': number}
    page.types["name"]               # "counter", "gauge", "histogram"
    page.rows("name")                # [({"label": "x"}, number), ..]
    moved(before, after, name)       # how much a row has grown; a row that is not there is 0
"""
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
ROW = re.compile(rf'({NAME.pattern})(?:\{{((?:{LABEL.pattern})(?:,{LABEL.pattern})*)\}})? (\S+)')


class Page(dict):
    def __init__(self, text):
        super().__init__()
        self.types, self.text = {}, text
        assert text.endswith("\n")
        present = None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                present = line.split(" ")[2]
                assert NAME.fullmatch(present) and present not in self.types, f"{present} twice"
                assert line.split(" ", 3)[3].strip(), line
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name == present and name not in self.types, f"{line}: without its HELP"
                assert kind in ("counter", "gauge", "histogram"), line
                assert (kind == "counter") == name.endswith("_total"), line
                self.types[name] = kind
            else:
                self.add(line, present)
        for name, kind in self.types.items():
            if kind == "histogram":
                self.check_histogram(name)

    def add(self, line, present):
        match = ROW.fullmatch(line)
        assert match, line
        name = match.group(1)
        allowed = [present] if self.types[present] != "histogram" else \
            [present + end for end in ("_bucket", "_sum", "_count")]
        assert name in allowed, f"{line}: among the rows of {present}"
        key = name + (f"{{{match.group(2)}}}" if match.group(2) else "")
        assert key not in self, f"{key} twice"
        self[key] = float(match.groups()[-1])

    def rows(self, name):
        found = []
        for key, value in self.items():
            if key.split("{")[0] == name:
                labels = {k: re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), v)
                          for k, v in LABEL.findall(key[len(name):])}
                found.append((labels, value))
        return found

    def check_histogram(self, name):
        series = {}
        for labels, value in self.rows(name + "_bucket"):
            bound = labels.pop("le")
            series.setdefault(tuple(sorted(labels.items())), []).append((float(bound), value))
        assert series, f"{name} is empty"
        counts = {tuple(sorted(k.items())): v for k, v in self.rows(name + "_count")}
        sums = {tuple(sorted(k.items())): v for k, v in self.rows(name + "_sum")}
        assert set(series) == set(counts) == set(sums)
        for labels, buckets in series.items():
            assert buckets == sorted(buckets), f"{name}{labels}: bounds do not rise"
            values = [v for _, v in buckets]
            assert values == sorted(values), f"{name}{labels} is not cumulative"
            assert buckets[-1][0] == float("inf") and values[-1] == counts[labels]
            assert (sums[labels] > 0) <= (counts[labels] > 0)


def read(daemon):
    answer = daemon.call("GET", "/metrics", expect=200)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(answer.text)


def moved(before, after, name):
    return after.get(name, 0) - before.get(name, 0)


def refused(page, code):
    return page.get(f'learnd_refusals_total{{code="{code}"}}', 0)
