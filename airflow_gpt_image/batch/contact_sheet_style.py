"""How a contact sheet looks: the tokens of Airflow's own pages, light and dark as the reader's system is."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--page:#fff;--stage:#edf0f4;--text:#161d2d;--muted:#3e5873;--line:#c7cfd8;
--link:#155dfc;--focus:#1d3358;--f:#e7000b;--w:#9810fa;--u:#c53e00;--n:#778ba2}
@media(prefers-color-scheme:dark){:root{--page:#161d2d;--stage:#07121e;--text:#f8fafd;--muted:#a3afbe;
--line:#293c51;--link:#8ec5ff;--focus:#dce7f5;--f:#ff6467;--w:#c27aff;--u:#ed9740}}
*{box-sizing:border-box;margin:0}
body{padding:16px;background:var(--page);color:var(--text);font:14px/20px Inter,-apple-system,"Segoe UI",
Roboto,"DejaVu Sans",Helvetica,Arial,sans-serif;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
a:focus-visible,summary:focus-visible{outline:2px solid var(--focus);outline-offset:-2px}
header,main>div{display:flex;flex-wrap:wrap;justify-content:space-between;gap:8px 24px;margin-bottom:12px}
h1{font-size:24px;line-height:32px}
h1 span,header p,dt,li span{color:var(--muted)}
h1 span{font-weight:600}
dl{display:flex;flex-wrap:wrap;gap:8px 24px}
dt{font-size:12px;line-height:16px;font-weight:700}
dd{font-size:20px;line-height:30px;font-weight:600}
nav{display:flex;flex-wrap:wrap;font-size:13px;line-height:18px}
nav>*{padding:4px 8px 4px 0;min-height:26px}
nav a[aria-current]{color:var(--text);font-weight:700}
h2{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
details{margin-bottom:16px}
summary{padding:4px 0;cursor:pointer;font-weight:600}
table{border-collapse:collapse;font-size:13px;line-height:18px}
th,td{padding:4px 16px 4px 0;border-top:1px solid var(--line);text-align:left;vertical-align:top}
th{white-space:nowrap}
td:first-child{min-width:9em}
ul{display:grid;grid-template-columns:repeat(auto-fill,minmax(128px,1fr));gap:12px 8px;padding:0;
list-style:none}
li{min-width:0;content-visibility:auto;contain-intrinsic-size:auto 190px}
li a{display:block;color:inherit}
img,li>div{display:block;width:100%;height:auto;aspect-ratio:1;margin-bottom:8px;border-radius:4px}
img{object-fit:contain;background:var(--stage);font-size:12px;line-height:16px;overflow:hidden}
li>div{padding:12px;border:1px solid var(--line);overflow:hidden}
h3{font-size:13px;line-height:18px}
h3 i{font-style:normal}
.f i{color:var(--f)}.w i{color:var(--w)}.u i{color:var(--u)}.n i{color:var(--n)}
li p{margin-top:4px;color:var(--muted);font-size:12px;line-height:16px;display:-webkit-box;overflow:hidden;
-webkit-box-orient:vertical;-webkit-line-clamp:4}
li b{display:-webkit-box;font-size:13px;line-height:18px;overflow:hidden;-webkit-box-orient:vertical;
-webkit-line-clamp:2}
li span{display:block;font-size:12px;line-height:16px;margin-top:2px}
@media(max-width:767px){body{padding:12px}ul{grid-template-columns:1fr 1fr}}
@media(min-width:1920px){ul{grid-template-columns:repeat(auto-fill,minmax(200px,1fr))}}
"""

HEAD: Final = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="referrer" content="no-referrer">\n'
    f"<title>{{title}}</title>\n<style>{CSS.replace('{', '{{').replace('}', '}}')}</style>\n</head>\n<body>\n"
)
"""The beginning of a page, to be formatted with ``title`` and ``policy``, both as HTML."""
