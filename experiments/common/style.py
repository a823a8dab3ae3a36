"""The look of every page, inline so that a page is one file and its figures; light and dark."""

CSS = """
:root {
  --paper: #fdfdfb; --ink: #1c1d21; --soft: #5d606a; --line: #dcdde2; --card: #f3f3f0;
  --accent: #1d5fa8; --good: #1b6e3c; --good-back: #e2f3e7; --bad: #a3261f; --bad-back: #fbe6e4;
  --note: #7a5200; --note-back: #fbf0d8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16171b; --ink: #e7e7ea; --soft: #a3a6b1; --line: #34363e; --card: #202228;
    --accent: #7fb4f0; --good: #86d9a3; --good-back: #1c3626; --bad: #ff9d94; --bad-back: #44201d;
    --note: #eec777; --note-back: #3b2f16;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 3rem 1.25rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif;
}
.kicker { margin: 0; color: var(--soft); font-size: .85rem; letter-spacing: .04em; }
h1 { margin: .2rem 0 .6rem; font-size: 2.1rem; line-height: 1.2; }
h2 {
  margin: 3rem 0 .8rem; padding-top: 1.2rem; border-top: 1px solid var(--line);
  font-size: 1.4rem;
}
h3 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
p { max-width: 44rem; margin: .7rem 0; }
.lead { color: var(--soft); font-size: 1.12rem; }
nav {
  display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin-top: 1.2rem; font-size: .92rem;
}
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
code, pre {
  font-family: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; font-size: .88em;
}
code { padding: .05em .3em; border-radius: 4px; background: var(--card); white-space: nowrap; }
pre {
  margin: 0; padding: 1rem 1.2rem; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); overflow-x: auto; line-height: 1.5;
}
figure { margin: 1.4rem 0; }
figcaption { max-width: 44rem; margin-top: .5rem; color: var(--soft); font-size: .9rem; }
img {
  display: block; max-width: 100%; height: auto; border: 1px solid var(--line);
  border-radius: 8px; background: #fff;
}
.table > div { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td {
  padding: .38rem 1rem .38rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top;
}
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--soft); }
table.matrix, table.scalar { width: auto; }
table.matrix {
  border: solid currentColor; border-width: 0 1.5px; border-radius: 5px;
}
table.matrix td, table.scalar td {
  padding: 0 .55rem; border: 0; text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums;
}
td > figcaption { margin-top: .15rem; }
td.number { font-variant-numeric: tabular-nums; }
.good, .bad, .note {
  padding: .08em .5em; border-radius: 5px; font-variant-numeric: tabular-nums;
}
.good { color: var(--good); background: var(--good-back); }
.bad { color: var(--bad); background: var(--bad-back); }
.note { color: var(--note); background: var(--note-back); }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem;
  margin: 1.4rem 0;
}
.cards > div {
  padding: .9rem 1.1rem; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card);
}
.cards dt { color: var(--soft); font-size: .85rem; }
.cards dd {
  margin: .15rem 0 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums;
}
footer {
  margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .88rem;
}
"""
