"""A person in a browser, from the sign-up to a prediction."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, Server
from playwright.sync_api import Page, expect

PENGUINS = ROOT / "Examples/penguins.csv"
# With PyTorch, for custom modules.
TORCH = Path(os.environ.get("COHORT_TEST_TORCH_PYTHON", ROOT / ".build-tools/torch/bin/python"))
MODULES = TORCH.exists() and (ROOT / ".build/torch/libcohort-torch.so").exists()


def accessible(page: Page) -> None:
    """axe-core finds nothing, in light and in dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        assert found == [], [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found]
    page.emulate_media(color_scheme="light")


def sign_in(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/app/signin")
    form = page.locator("section", has=page.get_by_role("heading", name="Sign in"))
    form.get_by_label("E-mail").fill("ada@example.org")
    form.get_by_label("Password").fill("correct horse")
    form.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


def until(condition: Callable[[], bool]) -> None:
    """Within a minute. The pages forbid what Page.wait_for_function does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def round_of(page: Page) -> int:
    found = re.search(r"\d+", page.locator("#round").inner_text())
    return int(found[0]) if found else 0


def start(page: Page, server: Server, **fields: str) -> str:
    """Starts a session on the penguins and returns its id."""
    page.goto(f"{server.url}/app/new")
    page.get_by_label("Drop a CSV here, or choose one").set_input_files(PENGUINS)
    page.get_by_label("Column to predict").select_option("species")
    expect(page.get_by_text("'species' is predicted as one of 3 classes")).to_be_visible()
    page.get_by_text("More settings").click()
    for label, value in fields.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("/app/session/"))
    return page.url.rsplit("/", 1)[1]


def test_from_nothing_to_a_prediction(server: Server, open_page: Callable[..., Page], picture: Callable[[Page, str], None]) -> None:
    page = open_page(expected=("400",))
    page.goto(server.url)
    picture(page, "signin")
    accessible(page)
    form = page.locator("section", has=page.get_by_role("heading", name="Make an account"))
    form.get_by_label("E-mail").fill("ada@example.org")
    form.get_by_label("Name").fill("Ada")
    form.get_by_label("Password").fill("correct horse")
    form.get_by_role("button", name="Make the account").click()
    expect(page.get_by_text("No machine is here yet")).to_be_visible()
    expect(page.get_by_text("Nothing was trained yet")).to_be_visible()
    accessible(page)

    # A token, the line that goes with it, and three machines that use it.
    page.get_by_role("button", name="Make a token").click()
    line = page.locator("#join-line")
    expect(line).not_to_contain_text("TOKEN")
    words = line.inner_text().split()
    assert words[:4] == ["cohort", "peer", "--server", server.url]
    for name in ("ana", "ben", "cleo"):
        server.add_peer(name, words[-1])
    for name in ("ana", "ben", "cleo"):
        expect(page.locator("#peers tr", has_text=name)).to_contain_text("online, free")
    picture(page, "dashboard-peers")

    # What the CSV looks like, before it is sent.
    page.get_by_role("link", name="New session", exact=True).first.click()
    expect(page.get_by_text("3 of yours are free.")).to_be_visible()
    assert page.get_by_label("Machines", exact=True).input_value() == "3"
    page.get_by_label("Drop a CSV here, or choose one").set_input_files(PENGUINS)
    page.get_by_label("Column to predict").select_option("species")
    expect(page.get_by_text("344 rows; 'species' is predicted as one of 3 classes.")).to_be_visible()
    expect(page.locator("#columns tr", has_text="bill_length_mm").locator("svg rect")).to_have_count(12)
    expect(page.locator("#columns tr", has_text="sex")).to_contain_text("female")
    expect(page.locator("#estimate")).to_contain_text("of computing on one machine")
    page.get_by_label("what to do with year").select_option("do not use")
    picture(page, "new")
    accessible(page)
    page.get_by_text("More settings").click()
    for label, value in {"Rounds": "40", "Epochs": "5", "Batch size": "8", "Learning rate": "0.002", "Hidden layers": "32,16", "Seed": "7", "Name": "first"}.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("epochs of ben").fill("2")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("/app/session/"))

    # Live, to its end, without reloading.
    expect(page.get_by_role("heading", name="first")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Training completed", timeout=60_000)
    expect(page.locator("#loss-legend li")).to_have_count(4)
    expect(page.locator("#loss")).to_have_attribute("aria-label", re.compile("Loss over the rounds, now 0\\.\\d+"))
    expect(page.locator("#results")).to_contain_text("held-out rows")
    expect(page.locator("table.matrix td.hit")).to_have_count(3)
    for name in ("ana", "ben", "cleo"):
        expect(page.locator("#results")).to_contain_text(name)
    expect(page.locator("#subject")).to_contain_text("predicting species")
    assert "year" not in page.locator("#try-fields").inner_text()
    expect(page.locator("#results")).to_contain_text("Feature importance")
    page.get_by_text("Updates, round by round").click()
    receipt = page.locator("#receipt")
    expect(receipt).to_contain_text("Cosine")
    expect(receipt.get_by_role("link", name="The whole receipt as a file")).to_be_visible()
    expect(page.locator("#results")).to_contain_text("Calibration")
    page.get_by_label("bill_length_mm", exact=True).fill("39.1")
    page.get_by_label("flipper_length_mm", exact=True).fill("181")
    page.get_by_label("island", exact=True).select_option("Torgersen")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#prediction")).to_have_text("species: Adelie")
    expect(page.locator("#chances li")).to_have_count(3)
    expect(page.locator("#chances li").first).to_contain_text("Adelie")
    page.get_by_text("Predict a whole file").click()
    page.get_by_label("Predict a CSV file").set_input_files(PENGUINS)
    with page.expect_download() as download:
        page.get_by_role("button", name="Predict the file").click()
    predicted = download.value.path().read_text().splitlines()
    assert len(predicted) == 345 and predicted[0].endswith(",year,predicted_species,p(Adelie),p(Chinstrap),p(Gentoo)")
    assert sum(line.split(",")[0] == line.split(",")[-4] for line in predicted[1:]) > 320
    page.get_by_label("Predict a CSV file").set_input_files({"name": "other.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"})
    page.get_by_role("button", name="Predict the file").click()
    expect(page.locator("#whole-said")).to_contain_text("there is no column that the model predicts from")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the model").click()
    assert download.value.path().stat().st_size > 1_000
    with page.expect_download() as download:
        page.get_by_role("link", name="Metrics as CSV").click()
    lines = download.value.path().read_text().splitlines()[1:]
    assert {name: sum(f",{name}," in line for line in lines) for name in ("ana", "ben", "cleo")} == {"ana": 200, "ben": 80, "cleo": 200}
    with page.expect_download() as download:
        page.get_by_role("link", name="Model card").click()
    card = download.value.path().read_text()
    assert card.startswith("# first\n") and re.search(r"\| Accuracy \| [01]\.\d", card) and "column 'year' is left out, as asked" in card and "| Seed | 7 |" in card
    picture(page, "session")
    accessible(page)

    # The same after a reload, and on the dashboard: what happened, and the colours of the machines, too.
    happened = set(page.locator("#events li").all_inner_texts())
    colours = page.locator("#loss-legend li").evaluate_all("items => items.map(item => item.innerText + item.querySelector('line').getAttribute('stroke')).sort()")
    assert any("Training starts" in text for text in happened), happened
    page.reload()
    expect(page.locator("#loss-legend li")).to_have_count(4)
    expect(page.locator("#loss-legend")).to_be_visible()
    assert page.locator("#loss-legend li").evaluate_all("items => items.map(item => item.innerText + item.querySelector('line').getAttribute('stroke')).sort()") == colours
    expect(page.locator("#events")).to_contain_text("Training starts")
    # What a stream says first, of the status at that moment, is no event.
    words = lambda texts: {text.split(" ", 2)[2] if re.match(r"\d+:\d+:\d+ [AP]M ", text) else text.split(" ", 1)[1] for text in texts}
    told = {text for text in words(happened) if not re.match("Training (is being prepared|in progress|completed)", text)}
    assert len(told) > 3 and words(page.locator("#events li").all_inner_texts()) >= told
    expect(page.locator("#results")).to_contain_text("held-out rows")
    page.get_by_role("link", name="Dashboard").first.click()
    row = page.locator("#sessions tr", has_text="first")
    expect(row).to_contain_text("Training completed")
    expect(row).to_contain_text("%")
    picture(page, "dashboard")
    accessible(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_two_sessions_beside_each_other_and_the_models(server: Server, open_page: Callable[..., Page], picture: Callable[[Page, str], None]) -> None:
    page = open_page()
    sign_in(page, server)
    start(page, server, Rounds="5", Seed="8", Name="second")
    expect(page.locator("#state")).to_have_text("Training completed")
    page.get_by_role("link", name="Compare").last.click()
    page.get_by_label("compare first").check()
    expect(page.locator("#settings tr", has_text="rounds")).to_contain_text("40")
    expect(page.locator("#settings tr", has_text="seed")).to_contain_text("8")
    expect(page.locator("#settings")).not_to_contain_text("strategy")
    expect(page.locator("#metrics tr", has_text="Accuracy")).to_contain_text("%")
    expect(page.locator("#loss-legend li")).to_have_count(2)
    picture(page, "sessions")
    accessible(page)
    page.reload()
    expect(page.locator("#loss-legend li")).to_have_count(2)
    # Sorted, filtered, and with another column.
    names = page.locator("#sessions tbody tr td:first-child")
    page.get_by_role("button", name="Session", exact=True).click()
    assert names.all_inner_texts() == sorted(names.all_inner_texts())
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Seed", exact=True).check()
    expect(page.locator("#sessions tr", has_text="second")).to_contain_text("8")
    page.get_by_placeholder("Filter by name").fill("seco")
    expect(names).to_have_text(["second"])
    page.get_by_role("link", name="Models").click()
    expect(page.locator("#models tr", has_text="first")).to_contain_text("species")
    accessible(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="model of second").click()
    assert download.value.path().stat().st_size > 1_000


def test_a_model_is_trained_further_and_gets_the_next_version(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page()
    sign_in(page, server)
    page.get_by_role("link", name="Models").click()
    page.get_by_role("link", name="train second further").click()
    expect(page.locator("#onward")).to_contain_text("Training goes on from the model of second, which predicts 'species'")
    expect(page.get_by_label("Hidden layers")).to_be_disabled()
    page.get_by_label("Drop a CSV here, or choose one").set_input_files(PENGUINS)
    expect(page.get_by_text("'species' is predicted as one of 3 classes")).to_be_visible()
    page.get_by_label("Rounds", exact=True).fill("2")
    accessible(page)
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("/app/session/"))
    expect(page.locator("#state")).to_have_text("Training completed")
    expect(page.locator("#results")).to_contain_text("estimated from the machines' speeds")
    page.get_by_role("link", name="Models").click()
    expect(page.locator("#models tr", has_text="second").locator("td:nth-child(2)")).to_have_text(["2", "1"])


def test_a_quantity_is_shown_with_its_residuals(server: Server, open_page: Callable[..., Page], picture: Callable[[Page, str], None]) -> None:
    page = open_page()
    sign_in(page, server)
    page.goto(f"{server.url}/app/new")
    page.get_by_label("Drop a CSV here, or choose one").set_input_files(PENGUINS)
    page.get_by_label("Column to predict").select_option("body_mass_g")
    expect(page.get_by_text("'body_mass_g' is predicted as a quantity")).to_be_visible()
    page.get_by_label("Rounds", exact=True).fill("8")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("/app/session/"))
    expect(page.locator("#state")).to_have_text("Training completed")
    expect(page.locator("#results")).to_contain_text("in units of 'body_mass_g'")
    expect(page.get_by_role("img", name=re.compile("Residuals of [0-9]+ held-out rows"))).to_be_visible()
    picture(page, "residuals")
    accessible(page)


def numbers(rows: int) -> bytes:
    """A CSV of four columns that tell three classes apart."""
    lines = [f"{label * 2 + row % 7 / 10},{row % 5 / 10},{label - row % 3 / 10},{row % 11 / 10},k{label}" for row in range(rows) for label in [row % 3]]
    return "\n".join(["a,b,c,d,y", *lines, ""]).encode()


@pytest.mark.skipif(not MODULES, reason="no plugin, or no Python with PyTorch: make torch")
def test_a_module_of_ones_own_is_added_chosen_and_trained(server: Server, open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page(expected=("400",))
    sign_in(page, server)
    subprocess.run([TORCH, ROOT / "Tests/SystemTests/Resources/make_module.py", "net", tmp_path], check=True)
    page.goto(f"{server.url}/app/new")
    page.get_by_text("More settings").click()
    page.get_by_label("Add a module of your own").set_input_files(PENGUINS)
    expect(page.locator("#problem")).to_contain_text("this is not a .safetensors file")
    page.get_by_label("Add a module of your own").set_input_files(tmp_path / "net.safetensors")
    expect(page.get_by_label("Model", exact=True).locator("option:checked")).to_contain_text("4 → 3, ")
    expect(page.get_by_label("Hidden layers")).to_be_disabled()
    page.get_by_label("Drop a CSV here, or choose one").set_input_files({"name": "numbers.csv", "mimeType": "text/csv", "buffer": numbers(120)})
    expect(page.get_by_text("'y' is predicted as one of 3 classes")).to_be_visible()
    page.get_by_label("Machines", exact=True).fill("1")
    page.get_by_label("Rounds", exact=True).fill("5")
    page.get_by_label("Learning rate", exact=True).fill("0.01")
    accessible(page)
    # Three machines are free, and none of them has PyTorch.
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#problem")).to_contain_text("only peers with the torch engine count")

    server.add_peer("torch", server.token, "torch")
    until(lambda: "torch" in page.evaluate("async () => (await (await fetch('/peers')).json()).filter(peer => peer.status === 'ONLINE').map(peer => peer.name)"))
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile("/app/session/"))
    expect(page.locator("#state")).to_have_text("Training completed", timeout=60_000)
    expect(page.locator("#results")).to_contain_text("torch")
    # The other tests' machines are three.
    server.remove_peer()


def test_sample_data_becomes_a_model_in_three_clicks(server: Server, open_page: Callable[..., Page], picture: Callable[[Page, str], None]) -> None:
    page = open_page()
    sign_in(page, server)
    clicks = 0

    def click(role: str, name: str) -> None:
        nonlocal clicks
        page.get_by_role(role, name=name).first.click()  # type: ignore[arg-type]
        clicks += 1

    click("link", "New session")
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    picture(page, "new-empty")
    click("button", "Titanic")
    expect(page.get_by_text("2,201 rows; 'survived' is predicted as one of 2 classes.")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_in_viewport()
    click("button", "Start training")
    page.wait_for_url(re.compile("/app/session/"))
    expect(page.locator("#state")).to_have_text("Training completed", timeout=60_000)
    expect(page.locator("#tiles")).to_contain_text("Accuracy")
    assert clicks <= 6
    # The form begins with a real row, and says what that row has.
    page.get_by_role("button", name="Another row of the data").click()
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#prediction")).to_contain_text("survived: ")
    expect(page.locator("#truth")).to_contain_text(re.compile("In the data, this row has: (yes|no)"))


def test_pages_do_not_jump_load_little_and_wait_for_nothing_but_their_style(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page()
    # Shifts of the layout that no input caused, with what has moved.
    page.add_init_script("""
        window.shifts = [];
        new PerformanceObserver(list => { for (const entry of list.getEntries()) if (!entry.hadRecentInput)
            window.shifts.push([entry.value, entry.sources.map(source => (source.node?.id || source.node?.nodeName) + '')]);
        }).observe({type: 'layout-shift', buffered: true});
    """)
    sign_in(page, server)
    session = start(page, server, Rounds="2")
    expect(page.locator("#state")).to_have_text("Training completed", timeout=60_000)
    for size in ({"width": 1280, "height": 900}, {"width": 390, "height": 844}):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        for address in ("/", "/app/new", "/app/sessions", "/app/models", "/app/account", f"/app/session/{session}"):
            page.goto(server.url + address)
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(200)  # What is drawn after the last answer counts as well.
            shifts = page.evaluate("window.shifts")
            assert sum(value for value, _ in shifts) < 0.02, (address, size, shifts)
            blocking = page.evaluate("performance.getEntriesByType('resource').filter(each => each.renderBlockingStatus === 'blocking').map(each => each.name)")
            assert {name.rsplit("/", 1)[1].split("?")[0] for name in blocking} <= {"app.css"}, (address, blocking)
            elsewhere = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
            assert all(name.startswith((server.url, "data:", "blob:")) for name in elsewhere), elsewhere
            weight = page.evaluate("[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map(each => each.encodedBodySize).reduce((a, b) => a + b)")
            if address == "/":
                assert weight <= 60_000, weight


def test_a_file_whose_last_column_cannot_be_predicted_still_shows_its_columns(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page()
    sign_in(page, server)
    page.goto(f"{server.url}/app/new")
    rows = "".join(f"{row % 7},{'yes' if row % 7 > 3 else 'no'},c{row}\n" for row in range(200))
    page.get_by_label("Drop a CSV here, or choose one").set_input_files({"name": "shop.csv", "mimeType": "text/csv", "buffer": f"visits,bought,customer\n{rows}".encode()})
    expect(page.locator("#target-problem")).to_contain_text("200 different values")
    expect(page.locator("#columns tr", has_text="visits")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    page.get_by_label("Column to predict").select_option("bought")
    expect(page.get_by_text("'bought' is predicted as one of 2 classes")).to_be_visible()
    expect(page.locator("#target-problem")).to_be_hidden()
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()


def test_pages_speak_no_options_and_no_json(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page()
    sign_in(page, server)
    page.goto(f"{server.url}/app/new")
    # Warnings of every kind that a column can cause: an id, a copy of the target, an outlier, codes, rare classes.
    lines = ["id,copy,far,code,y"] + [f"r{row},k{row % 2},{1e9 if row == 7 else row % 5},0{row % 8},{'k1' if row % 2 else 'k0'}" for row in range(120)]
    page.get_by_label("Drop a CSV here, or choose one").set_input_files({"name": "w.csv", "mimeType": "text/csv", "buffer": "\n".join([*lines, ""]).encode()})
    expect(page.locator("#warnings li").first).to_be_visible()
    page.get_by_text("More settings").click()
    for address in ("/app/new", "/", "/app/sessions", "/app/models", "/app/account"):
        if address != "/app/new":
            page.goto(server.url + address)
            page.wait_for_load_state("networkidle")
        said = page.evaluate("[...document.querySelectorAll('main, main [placeholder]')].map(e => e.innerText + ' ' + (e.placeholder ?? '')).join(' ')")
        said = said.replace(page.locator("#join").inner_text(), "") if address == "/" else said
        assert not re.search(r"(^|\s)--[a-z]|JSON|\{\"", said), (address, re.findall(r".{40}(?:--[a-z]|JSON|\{\").{40}", said))


def test_a_chart_tells_its_values_zooms_and_is_saved(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page()
    sign_in(page, server)
    page.goto(f"{server.url}/app/sessions")
    page.get_by_role("link", name="first", exact=True).click()
    expect(page.locator("#loss-legend li")).to_have_count(4)
    card = page.locator("section", has=page.get_by_role("heading", name="Loss", exact=True))
    tip = card.locator(".tip")
    expect(tip).to_be_hidden()
    card.scroll_into_view_if_needed()
    box = page.locator("#loss").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    expect(tip).to_contain_text(re.compile("round [0-9]"))
    for name in ("ana", "ben", "cleo", "global model"):
        expect(tip).to_contain_text(name)
    # The other chart shows the same place.
    expect(page.locator("section", has=page.get_by_role("heading", name="Accuracy", exact=True)).locator(".tip")).to_contain_text("%")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 60, steps=4)
    page.mouse.up()
    card.get_by_role("button", name="Whole").click()
    expect(card.get_by_role("button", name="Whole")).to_be_hidden()
    card.get_by_role("button", name="Time").click()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    expect(tip.locator("b")).to_contain_text("s")
    card.get_by_role("button", name="Log").click()
    for kind, begin in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"line,round,seconds,value")):
        with page.expect_download() as download:
            card.get_by_role("button", name=f"save as {kind}").click()
        assert download.value.path().read_bytes().startswith(begin)
    page.locator("#loss").focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_be_visible()


def test_notes_and_tags_stay_and_are_found(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(expected=("400",))
    sign_in(page, server)
    page.goto(f"{server.url}/app/sessions")
    page.get_by_role("link", name="first", exact=True).click()
    page.get_by_label("Note", exact=True).fill("the year is left out")
    page.get_by_label("Tags").fill("baseline, penguins")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#labels-said")).to_have_text("Saved.")
    expect(page.locator("#tags .tag")).to_have_text(["baseline", "penguins"])
    page.get_by_label("Tags").fill("x" * 31)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#labels-said")).to_contain_text("a tag has 1 to 30 characters")
    page.goto(f"{server.url}/app/sessions")
    page.get_by_placeholder("Filter by name").fill("baseline")
    expect(page.locator("#sessions tbody tr")).to_have_count(1)


def test_a_link_shows_a_session_without_an_account_and_without_what_is_private(server: Server, open_page: Callable[..., Page], picture: Callable[[Page, str], None]) -> None:
    page = open_page()
    sign_in(page, server)
    page.goto(f"{server.url}/app/sessions")
    page.get_by_role("link", name="first", exact=True).click()
    links = []
    for allows in (False, True):
        expect(page.locator("#state")).to_have_text("Training completed")
        if page.locator("#sharing").is_hidden():
            page.get_by_role("button", name="Share").click()
        page.get_by_label("Let them try the model").set_checked(allows)
        before = page.locator("#share-link").text_content()
        page.get_by_role("button", name="Make a link").click()
        until(lambda: page.locator("#share-link").text_content() not in ("", before))
        links.append(page.locator("#share-link").inner_text())
    accessible(page)
    other = open_page(expected=("404",))
    answers: list[str] = []
    other.on("response", lambda answer: answers.append(answer.text()) if "/shared/" in answer.url else None)
    for link, allows in zip(links, (False, True)):
        shown = other.goto(link)
        assert shown
        headers = shown.headers
        assert headers["referrer-policy"] == "no-referrer" and "noindex" in headers["x-robots-tag"] and headers["cache-control"] == "no-store"
        expect(other.get_by_role("heading", name="first")).to_be_visible()
        expect(other.locator("#loss-legend li")).to_have_count(4)
        expect(other.locator("#results")).to_contain_text("held-out rows")
        expect(other.locator("#try")).to_be_visible(visible=allows)
    said = "\n".join(answers)
    for private in ("ana", "cleo", "Ada", "ada@example.org", "penguins.csv"):
        assert not re.search(rf"\b{re.escape(private)}\b", said), private
    other.get_by_role("button", name="Predict", exact=True).click()
    expect(other.locator("#prediction")).to_contain_text("species: ")
    picture(other, "shared")
    accessible(other)
    page.get_by_role("button", name=re.compile("revoke the link")).first.click()
    expect(page.get_by_role("button", name=re.compile("revoke the link"))).to_have_count(1)
    other.goto(links[0])
    expect(other.get_by_role("alert")).to_contain_text("was revoked")


def test_eight_pages_of_one_account_leave_room_for_a_ninth(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(expected=("ERR_INCOMPLETE_CHUNKED_ENCODING",))
    sign_in(page, server)
    session = start(page, server, Rounds="100000", Name="watched")
    pages = [page.context.new_page() for _ in range(8)]
    for index, each in enumerate(pages):
        each.goto(f"{server.url}/" if index % 2 else f"{server.url}/app/session/{session}")
    # All are live: those that show the session see its rounds pass.
    for each in pages[::2]:
        before = round_of(each)
        until(lambda: round_of(each) > before + 2)
    ninth = page.context.new_page()
    ninth.goto(f"{server.url}/app/session/{session}")
    expect(ninth.locator("#state")).to_have_text("Training in progress")
    # The page that held the stream goes, and another takes over.
    page.close()
    for each in (pages[0], ninth):
        before = round_of(each)
        until(lambda: round_of(each) > before + 2)
    ninth.on("dialog", lambda dialog: dialog.accept())
    ninth.get_by_role("button", name="Cancel").click()
    expect(pages[0].locator("#state")).to_have_text("Training cancelled")


def test_an_address_that_leads_nowhere_is_a_page(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(expected=("404",))
    for address in ("/nosuch", "/app/nosuch", "/shared/x/y"):
        page.goto(server.url + address)
        expect(page.get_by_role("heading", name="Nothing is here")).to_be_visible()
        expect(page.get_by_role("link", name="Back to the dashboard")).to_be_visible()


def test_a_wrong_password_and_a_taken_address_are_said(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(expected=("401", "409"))
    page.goto(f"{server.url}/app/signin")
    form = page.locator("section", has=page.get_by_role("heading", name="Sign in"))
    form.get_by_label("E-mail").fill("ada@example.org")
    form.get_by_label("Password").fill("wrong horse")
    form.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("the e-mail or the password is wrong")
    assert form.get_by_label("E-mail").input_value() == "ada@example.org"
    form = page.locator("section", has=page.get_by_role("heading", name="Make an account"))
    form.get_by_label("E-mail").fill("ada@example.org")
    form.get_by_label("Password").fill("correct horse")
    form.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("alert")).to_contain_text("take another address")


def test_a_broken_csv_and_a_busy_pool_are_said_before_anything_is_sent(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(expected=("400",))
    sign_in(page, server)
    page.goto(f"{server.url}/app/new")
    file = page.get_by_label("Drop a CSV here, or choose one")
    file.set_input_files({"name": "broken.csv", "mimeType": "text/csv", "buffer": b'a,b\n1,"x\n'})
    expect(page.locator("#file-problem")).to_contain_text("line 2")
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    file.set_input_files(PENGUINS)
    page.get_by_label("Column to predict").select_option("species")
    page.get_by_label("Machines", exact=True).fill("50")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#problem")).to_contain_text("50 peers were asked for and 3 are online and free")
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()


def test_a_session_is_watched_across_a_restart_of_the_server_and_cancelled(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(expected=("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "503", "404"))
    sign_in(page, server)
    start(page, server, Rounds="100000", Name="long")
    expect(page.locator("#state")).to_have_text("Training in progress")
    until(lambda: round_of(page) > 3)
    server.stop()
    expect(page.locator("#away")).to_be_visible()
    before = round_of(page)
    server.start()
    expect(page.locator("#away")).to_be_hidden(timeout=60_000)
    until(lambda: round_of(page) > before + 3)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("Training cancelled")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    expect(page.locator("#sessions")).not_to_contain_text("long")


def test_the_api_page_and_the_account(server: Server, open_page: Callable[..., Page], picture: Callable[[Page, str], None]) -> None:
    page = open_page()
    sign_in(page, server)
    page.get_by_role("link", name="API").click()
    page.locator("#list_peers summary").click()
    page.locator("#list_peers").get_by_role("button", name="Send").click()
    expect(page.locator("#list_peers pre")).to_contain_text('"ana"')
    accessible(page)
    page.get_by_role("link", name="Account").click()
    expect(page.locator("#tokens")).to_contain_text("from the dashboard")
    expect(page.locator("#signins")).to_contain_text("Chrome on Linux")
    expect(page.locator("#signins")).to_contain_text("this one")
    picture(page, "account")
    accessible(page)
    page.locator("#password").get_by_label("Current password").fill("correct horse")
    page.get_by_label("New password").fill("better horse")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_account_is_deleted_once_its_password_is_confirmed(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(expected=("401", "403"))
    page.goto(f"{server.url}/app/signin")
    form = page.locator("section", has=page.get_by_role("heading", name="Make an account"))
    form.get_by_label("E-mail").fill("leaver@example.org")
    form.get_by_label("Password").fill("correct horse")
    form.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    page.goto(f"{server.url}/app/account")
    accessible(page)
    page.on("dialog", lambda dialog: dialog.accept())
    form = page.locator("#delete")
    form.get_by_label("Current password").fill("wrong horse")
    form.get_by_role("button", name="Delete my account").click()
    expect(form.get_by_role("alert")).to_contain_text("the current password is incorrect")
    form.get_by_label("Current password").fill("correct horse")
    form.get_by_role("button", name="Delete my account").click()
    page.wait_for_url(re.compile("/app/signin"))
    form = page.locator("section", has=page.get_by_role("heading", name="Sign in"))
    form.get_by_label("E-mail").fill("leaver@example.org")
    form.get_by_label("Password").fill("correct horse")
    form.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("the e-mail or the password is wrong")
