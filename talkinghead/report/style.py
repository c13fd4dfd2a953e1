"""How a report looks: light and dark as the reader's system is, and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1a1c1f; --soft: #5d646d; --line: #d9dde2; --back: #fff; --raised: #f4f6f8;
  --first: #2563ad; --second: #c2570c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a0a7b0; --line: #363b42; --back: #15171a;
  --raised: #1f2226; --first: #7db4f5; --second: #f5a25d; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --raised: #fff;
  --first: #1d4f8f; --second: #a84808; } body { font-size: 11pt } figure, tr { break-inside: avoid }
  h2 { break-after: avoid } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 66rem;
  margin: 2rem auto; padding: 0 1.25rem }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line) }
p { max-width: 46rem; margin: .4rem 0 }
.soft, figcaption { color: var(--soft); font-size: .9rem }
figure { margin: .75rem 0 }
img, video, svg { display: block; max-width: 100%; height: auto }
video { width: 48rem; background: #000 }
.columns { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; color: var(--soft); font-size: .85rem }
.columns span { padding-right: .3rem }
figcaption { margin-top: .15rem; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .92rem }
th, td { padding: .25rem 1rem .25rem 0; text-align: left; vertical-align: top }
tr + tr > * { border-top: 1px solid var(--line) }
th { font-weight: 600 }
.figures td, .figures thead th + th { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.figures thead th { vertical-align: bottom } .figures .soft { font-weight: 400 }
.figures th + th, .figures td { padding-left: .5rem; padding-right: .5rem } .figures .own { background: var(--raised) }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft) }
svg .heading { fill: var(--ink) } svg .end { text-anchor: end } svg .middle { text-anchor: middle }
svg .grid { stroke: var(--line) } .curve { fill: none; stroke-width: 2; stroke-linejoin: round }
.curve.first { stroke: var(--first) } .curve.second { stroke: var(--second) }
.curve.faint { stroke: var(--soft); stroke-width: 1; opacity: .35 } .sound { fill: var(--soft) }
"""
