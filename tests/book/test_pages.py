"""The pages in a real browser: from the disk and from a server, on a desk and on a phone."""

import io
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

DESK, PHONE = {"width": 1280, "height": 850}, {"width": 390, "height": 844}

# Prose in which TeX was left as it was written, outside of code.
RAW_TEX = r"""() => {
  const copy = document.querySelector('article').cloneNode(true);
  copy.querySelectorAll('pre, code, mjx-container').forEach(part => part.remove());
  return copy.textContent.match(/\\\(|\\\[|\$\$|\{math\}|\{glue/g) || [];
}"""

BAD_IMAGES = """() => [...document.querySelectorAll('article img')]
  .filter(image => !image.complete || image.naturalWidth === 0
          || image.alt.split(' ').length < 3 || /\\.(png|svg|jpe?g)$/.test(image.alt))
  .map(image => image.src + ' alt: ' + image.alt)"""

# Parts of the article that stick out of the page without a box of their own to scroll in.
STICKING_OUT = """() => [...document.querySelectorAll(
    'article table, article pre, article img, article mjx-container svg, article p')]
  .filter(part => {
    if (part.getBoundingClientRect().right <= innerWidth + 1) return false;
    for (let box = part; box.tagName !== 'ARTICLE'; box = box.parentElement)
      if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)
          && box.getBoundingClientRect().right <= innerWidth + 1) return false;
    return true;
  }).map(part => part.outerHTML.slice(0, 200))"""

# Printed lines that a reader at a desk would have to scroll for.
CUT_OFF = """() => [...document.querySelectorAll('article .cell_output pre')]
  .filter(part => part.scrollWidth > part.clientWidth + 1)
  .map(part => part.textContent.slice(0, 200))"""

# The parts of a kind that scroll, or whose box does.
BOXES = """kind => [...document.querySelectorAll('article ' + kind)].map(part => {
  while (!['auto', 'scroll'].includes(getComputedStyle(part).overflowX))
    if ((part = part.parentElement).tagName === 'ARTICLE') return null;
  return part;
}).filter(box => box)"""

# No equation of the book is wider than a phone: one is made so, for a reader's own are not so kind.
LONG_EQUATION = """() => {
  const line = document.querySelector('article mjx-container[display] svg');
  line.style.width = line.style.minWidth = '900px';
}"""

# Least contrast (WCAG) of written parts with the ground behind them.
CONTRAST = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = part => {
    for (; part; part = part.parentElement) {
      const colour = getComputedStyle(part).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0.5) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const parts = [...document.querySelectorAll('article p, article td, article figcaption')];
  return Math.min(...parts.map(part => {
    const pair = [light(getComputedStyle(part).color), light(ground(part))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }));
}"""


class Visit:
    """A page that was opened, with all that went wrong on the way."""

    def __init__(self, browser, address: str, theme: str, viewport: dict):
        self.complaints, self.requests = [], []
        self.page = browser.new_page(viewport=viewport, color_scheme=theme)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)
        self.page.add_init_script(f"localStorage.mode = localStorage.theme = '{theme}'")
        self.page.goto(address, wait_until="load")
        self.page.evaluate("async () => { await window.MathJax?.startup?.promise }")

    def _listen(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def finds(self, script: str):
        return self.page.evaluate(script)


@pytest.fixture
def visit(browser):
    visits = []

    def open_page(address: str, theme: str = "light", viewport: dict = DESK) -> Visit:
        visits.append(Visit(browser, address, theme, viewport))
        return visits[-1]

    yield open_page
    for visited in visits:
        visited.page.close()


def test_page_loads_whole_and_asks_for_nothing_elsewhere(page_name, book, visit):
    _loads_whole(page_name, book.as_uri() + "/", visit)


def test_page_that_is_served_loads_as_well(page_name, server, visit):
    _loads_whole(page_name, server, visit)


def _loads_whole(page, base, visit):
    visited = visit(f"{base}{page}.html")
    elsewhere = [url for url in visited.requests if not _is_of(url, base)]
    assert not elsewhere
    assert not visited.complaints
    assert visited.finds(BAD_IMAGES) == []
    assert visited.finds(RAW_TEX) == []
    assert visited.finds(CUT_OFF) == []
    shown = visited.finds("() => document.querySelectorAll('article mjx-container').length")
    written = visited.finds("() => document.querySelectorAll('article .math').length")
    assert shown >= written


def test_page_fits_a_phone_and_can_be_read_by_day_and_night(page_name, book, visit):
    visited = visit(f"{book.as_uri()}/{page_name}.html", "light", PHONE)
    for theme in ("light", "dark"):
        visited.finds(f"() => {{ document.documentElement.dataset.theme = '{theme}' }}")
        assert visited.finds("() => document.documentElement.scrollWidth") <= PHONE["width"]
        assert visited.finds(STICKING_OUT) == []
        assert visited.finds(CONTRAST) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_book_has_the_theme_that_was_chosen(theme, book, visit):
    visited = visit(f"{book.as_uri()}/notebooks/04_milr_module.html", theme)
    assert visited.finds("() => document.documentElement.dataset.theme") == theme
    ground = visited.finds("() => getComputedStyle(document.body).backgroundColor")
    bright = sum(int(part) for part in ground[4:-1].split(",")[:3]) / 3
    assert (bright > 200) if theme == "light" else (bright < 60)
    card = "() => getComputedStyle(document.querySelector('article figure img')).backgroundColor"
    assert visited.finds(card) == "rgb(255, 255, 255)"
    assert not visited.complaints


@pytest.mark.parametrize(
    ("kind", "page"),
    [("table", "book/background"), ("mjx-container[display]", "book/background"),
     ("pre", "notebooks/04_milr_module"), ("img.wide", "notebooks/04_milr_module"),
     ("img.narrow", "notebooks/04_milr_module")],
)  # fmt: skip
def test_what_is_wider_than_a_phone_scrolls_in_its_own_box(kind, page, book, visit):
    visited = visit(f"{book.as_uri()}/{page}.html", "light", PHONE)
    if kind.startswith("mjx"):
        visited.finds(LONG_EQUATION)
    moved = visited.page.evaluate(
        f"kind => ({BOXES})(kind).map(box => (box.scrollLeft = 1000, box.scrollLeft))", kind
    )
    assert max(moved) > 0
    assert visited.finds("() => scrollX") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("kind", "page"), [("table", "book/rerun"), ("mjx-container[display]", "book/background")]
)
def test_a_box_that_scrolls_shows_at_its_edge_that_there_is_more(kind, page, theme, book, visit):
    visited = visit(f"{book.as_uri()}/{page}.html", theme, PHONE)
    if kind.startswith("mjx"):
        visited.finds(LONG_EQUATION)
    box = visited.page.evaluate_handle(
        f"kind => ({BOXES})(kind).find(box => box.scrollWidth > box.clientWidth + 40)", kind
    ).as_element()
    edges = []
    for at in (0, 10_000):
        box.evaluate("(box, at) => { box.scrollLeft = at }", at)
        pixels = np.asarray(Image.open(io.BytesIO(box.screenshot())).convert("L"))
        edges.append(np.median(pixels[:, -3:]))  # most of it is ground, and not letters
    shadow = edges[0] - edges[1]
    assert shadow < -20 if theme == "light" else shadow > 20


def test_a_figure_that_scrolls_on_a_phone_says_so(book, visit):
    said = """() => [...document.querySelectorAll('article figure a:has(img)')]
      .map(link => getComputedStyle(link, '::after').content)"""
    page = f"{book.as_uri()}/notebooks/04_milr_module.html"
    hints = visit(page, viewport=PHONE).finds(said)
    assert hints and all("swipe" in hint for hint in hints)
    assert not any("swipe" in hint for hint in visit(page).finds(said))


def test_a_link_to_a_result_shows_its_cell(book, visit):
    page = f"{book.as_uri()}/notebooks/05_figures.html"
    names = "() => [...document.querySelectorAll('div[id^=cell-]')].map(mark => mark.id)"
    marks = visit(page).finds(names)
    assert marks and len(marks) == len(set(marks))
    # The page scrolls there smoothly.
    shown = """name => {
      const mark = document.getElementById(name), top = mark.getBoundingClientRect().top;
      return mark.nextElementSibling.classList.contains('cell') && mark.offsetHeight === 0
        && top >= 0 && top < innerHeight }"""
    for name in (marks[0], marks[len(marks) // 2]):
        visit(f"{page}#{name}").page.wait_for_function(shown, arg=name, timeout=10_000)


def test_the_ledger_has_room_for_the_words_of_a_claim(book, visit):
    widths = """() => [...document.querySelector('.milr-ledger table').rows[1].cells]
      .concat(document.querySelector('.milr-ledger')).map(part => part.clientWidth)"""
    page = f"{book.as_uri()}/notebooks/14_scorecard.html"
    claim, own, reference, all_of_it = visit(page).finds(widths)
    assert claim > 180 and own > 120 and reference > 120
    assert claim + own + reference <= all_of_it
    *each, all_of_it = visit(page, viewport=PHONE).finds(widths)
    assert all(0.9 * all_of_it < width <= all_of_it for width in each)


def test_first_page_leads_to_the_welcome(book, browser):
    with browser.new_page() as page:
        page.goto((book / "index.html").as_uri(), wait_until="commit")
        page.wait_for_url("**/book/welcome.html")
        assert page.locator("article h1").count() == 1


def test_search_works_without_a_network(book, visit):
    visited = visit(f"{book.as_uri()}/search.html?q=bottleneck")
    visited.page.wait_for_selector("#search-results li")
    assert all(_is_of(url, book.as_uri()) for url in visited.requests)


def _is_of(url: str, base: str) -> bool:
    return url.startswith(base) or urlsplit(url).scheme in ("data", "blob")
