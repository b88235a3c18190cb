"""How the page of a report looks: on a desk, on a phone, on paper."""

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --muted: #55606b; --rule: #d9dee4; --soft: #f5f7f9; --accent: #00517f; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 71rem; margin: 0 auto; padding: 2.5rem 1.5rem 3rem; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 .25rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 .75rem; padding-top: 1.1rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: 0 0 .9rem; max-width: 46rem; }
.subtitle { color: var(--muted); margin-bottom: 1.5rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1px; margin: 0 0 1.75rem;
  background: var(--soft); border: 1px solid var(--rule); border-radius: 6px; overflow: hidden; }
.facts div { outline: 1px solid var(--rule); padding: .65rem .9rem; }
.facts dt { font-size: .8rem; color: var(--muted); }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; max-width: 100%; margin: 0 0 .6rem; }
table { border-collapse: collapse; font-size: .94rem; font-variant-numeric: tabular-nums; }
table.results { min-width: 100%; }
th, td { padding: .45rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; padding-left: .4rem; position: sticky; left: 0; background: #fff; }
thead th { font-size: .82rem; line-height: 1.35; white-space: normal; color: var(--muted); font-weight: 600;
  vertical-align: bottom; border-bottom: 1.5px solid var(--ink); }
tbody th { font-weight: 500; }
tr.setting-asyndgan th, tr.setting-asyndgan td { background: #eaf3f8; font-weight: 600; }
tr.best th, tr.total th, tr.total td { font-weight: 600; }
.mark { color: var(--accent); font-weight: 700; }
.note { font-size: .88rem; color: var(--muted); }
.legend { margin: .5rem 0 1rem; max-width: 52rem; }
.legend div { display: grid; grid-template-columns: 10.5rem 1fr; gap: .1rem 1rem; padding: .3rem 0; }
.legend dt { font-weight: 600; }
.legend dd { margin: 0; }
.claims { margin: .5rem 0 1rem; max-width: 52rem; }
.claims div { border-left: 3px solid var(--rule); padding: .1rem 0 .1rem .9rem; margin: 0 0 1rem; }
.claims .holds { border-color: #009e73; }
.claims .fails { border-color: #b45309; }
.claims dt { font-weight: 600; }
.claims em { font-style: normal; color: #9a3f00; }
.claims .holds em { color: #00664a; }
.claims dd { margin: 0; }
details { border: 1px solid var(--rule); border-radius: 6px; margin: 0 0 1rem; }
summary { cursor: pointer; padding: .6rem .9rem; font-weight: 600; }
details pre { border-width: 1px 0 0; border-radius: 0; margin: 0; }
figure { margin: 0 0 2.25rem; }
figure h3 { margin-top: 0; }
figure img { display: block; max-width: min(100%, 60rem); height: auto; }
figcaption { font-size: .92rem; color: var(--muted); margin-top: .6rem; max-width: 46rem; }
.missing { border: 1px dashed var(--rule); color: var(--muted); padding: 1.25rem; border-radius: 6px; }
pre { background: var(--soft); border: 1px solid var(--rule); border-radius: 6px; padding: .7rem .9rem;
  margin: 0 0 1.25rem; white-space: pre-wrap;
  font: .86rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre span { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 2rem; }
  h1 { font-size: 1.45rem; }
  .facts { grid-template-columns: 1fr 1fr; }
  .legend div { grid-template-columns: 1fr; padding: .45rem 0; }
  table { font-size: .88rem; }
  th, td { padding: .45rem .5rem; }
  /* the letters in a figure stay legible: like a wide table it is pushed sideways */
  figure img { min-width: 26rem; }
}
@media print { main { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""
