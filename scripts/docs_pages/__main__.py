"""Write every page that is made from the code."""

from __future__ import annotations

from scripts.docs_pages import FOLDER, PAGES, made

for name in PAGES:
    text = made(name)
    page = FOLDER / name
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")
        print(f"docs/{name} is written")
