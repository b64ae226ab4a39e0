#!/usr/bin/env python3
"""Tables (median [p5..p95] n, ratio to the first daemon) from the raw values that the benchmarks appended with --json.
report.py raw.jsonl... [--only REGEX over 'bench case metric'] [--names k227,k243]"""

import argparse, json, re, statistics

ap = argparse.ArgumentParser(description=__doc__)
ap.add_argument("files", nargs="+")
ap.add_argument("--only")
ap.add_argument("--names")
ap.add_argument("--not", dest="no")
a = ap.parse_args()
rows, names = {}, []
for f in a.files:
    for l in open(f):
        x = json.loads(l)
        k = (x["bench"], x["case"], x["metric"], x["unit"])
        if a.only and not re.search(a.only, " ".join(k)) or a.no and re.search(a.no, " ".join(k)):
            continue
        if x["daemon"] not in names:
            names.append(x["daemon"])
        rows.setdefault(k, {}).setdefault(x["daemon"], []).append(x["value"])
names = a.names.split(",") if a.names else names


def f(x):
    return "%d" % x if float(x).is_integer() and abs(x) < 1e9 else "%.3g" % x if abs(x) < 100 else "%.0f" % x


print(
    "| case | metric | "
    + " | ".join(names)
    + " | "
    + "".join("%s / %s | " % (n, names[0]) for n in names[1:])
    + "\n|"
    + "---|" * (1 + len(names) + len(names))
)
for (b, c, m, u), r in rows.items():
    out, med = [], {}
    for n in names:
        v = sorted(x for x in r.get(n, []) if x is not None)
        if not v:
            out.append("-")
            continue
        med[n] = statistics.median(v)
        q = lambda p: v[min(len(v) - 1, max(0, round(p * (len(v) - 1))))]
        out.append(
            f(med[n]) if v[0] == v[-1] else "%s [%s..%s] n=%d" % (f(med[n]), f(q(0.05)), f(q(0.95)), len(v))
        )
    print(
        "| %s | %s%s | " % (c, m, " (%s)" % u if u else "")
        + " | ".join(out)
        + " | "
        + "".join(
            "%.2f | " % (med[n] / med[names[0]]) if n in med and med.get(names[0]) else "- | "
            for n in names[1:]
        )
    )
