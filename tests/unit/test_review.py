"""The body of the review form: what Markdown draws of it, whatever results and prompts hold."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from airflow_gpt_image import review_body
from airflow_gpt_image.api.text import single_line
from airflow_gpt_image.errors import InvalidRequestError

RUN_ID = "manual__2026-11-26T19:52:45.361114+00:00"
PLACE = "gpt-image/result/shop/manual__2026-11-26T19%3A52%3A45.361114%2B00%3A00"
NO_BREAK = "\u200b"


def asking(*, states, results=(), spent=(), group="round", context=(), map_index=-1, mapped_groups=()):
    """The task instance that asks, with what Airflow tells it of the candidates of its run."""
    pulled = {"return_value": dict(results), "spent": dict(spent)}

    def get_task_states(dag_id, task_ids, run_ids):
        [task_id], [run_id] = task_ids, run_ids
        of_task = {name: state for name, state in states.items() if name.rpartition("_")[0] == task_id}
        alone = {task_id: states[task_id]} if task_id in states else {}
        return {run_id: alone or of_task}

    def xcom_pull(task_ids, map_indexes, key="return_value"):
        return pulled[key].get((task_ids, map_indexes))

    return SimpleNamespace(
        dag_id="shop",
        run_id=RUN_ID,
        map_index=map_index,
        task=SimpleNamespace(
            task_group=SimpleNamespace(group_id=group),
            iter_mapped_task_groups=lambda: (SimpleNamespace(group_id=name) for name in mapped_groups),
        ),
        get_task_states=get_task_states,
        get_template_context=lambda: dict(context),
        xcom_pull=xcom_pull,
    )


def result(**fields):
    image = {"path": "/data/a.png", "url": "https://file.example/a.png", "width": 1536, "height": 864}
    return {"images": [image], "usd": "0.0235", **fields}


def three(**changed):
    """The asking task of three candidates that went well, but for what is changed."""
    states = {f"picture_{index}": "success" for index in range(3)}
    results = {("picture", index): result() for index in range(3)}
    return asking(states=states | changed.get("states", {}), results=results | changed.get("results", {}))


def drawn(body):
    """What Markdown makes of it: the tables' rows of cells, other texts, addresses of pictures and links."""
    found = SimpleNamespace(rows=[], texts=[], pictures=[], links=[], others=set())
    in_cell = False
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body):
        if token.type == "tr_open":
            found.rows.append([])
        elif token.type in ("th_open", "td_open", "th_close", "td_close"):
            in_cell = token.type.endswith("open")
        elif token.type == "inline":
            text = ""
            for part in token.children:
                if part.type == "image":
                    found.pictures.append(part.attrs["src"])
                elif part.type == "link_open":
                    found.links.append(part.attrs["href"])
                elif part.type == "text":
                    text += part.content
                elif part.type not in ("link_close",):
                    found.others.add(part.type)
            if in_cell:
                found.rows[-1].append(text)
            else:
                found.texts.append(text)
        elif token.type.partition("_")[0] not in ("table", "thead", "tbody", "tr", "paragraph"):
            found.others.add(token.type)
    return found


def test_each_candidate_is_a_column_with_its_picture_its_pixels_and_its_price():
    seen = drawn(review_body(three(), "picture"))

    assert seen.rows == [["A", "B", "C"], ["", "", ""], ["1536 × 864 · $0.0235"] * 3]
    assert seen.pictures == [f"{PLACE}/picture/{index}/0?size=512" for index in range(3)]
    assert seen.links == [f"{PLACE}/picture/{index}/0?size=full" for index in range(3)]
    assert seen.texts == ["These cost $0.0705. Draw again pays $0.0705 for three new ones."]
    assert seen.others == set()


def test_the_columns_are_aligned_to_the_left():
    assert "\n| :--- | :--- | :--- |\n" in review_body(three(), "picture")


def test_tasks_that_are_not_mapped_are_candidates_in_the_order_given():
    ti = asking(
        states={"by_day": "success", "by_night": "success"},
        results={("by_day", -1): result(), ("by_night", -1): result(usd="2")},
    )

    seen = drawn(review_body(ti, ["by_night", "by_day"]))

    assert seen.rows[0] == ["A", "B"]
    assert seen.pictures == [f"{PLACE}/by_night/-1/0?size=512", f"{PLACE}/by_day/-1/0?size=512"]
    assert seen.texts == ["These cost $2.02. Draw again pays $2.02 for two new ones."]


def test_a_candidate_that_failed_keeps_its_letter_and_says_what_it_has_spent():
    ti = asking(
        states={"picture_0": "success", "picture_1": "failed", "picture_2": "success"},
        results={("picture", 0): result(), ("picture", 2): result()},
        spent={("picture", 1): {"charged": "4.7", "refunded": "4.7", "usd": "0"}},
    )

    seen = drawn(review_body(ti, "picture"))

    assert seen.rows[:2] == [["A", "B", "C"], ["", "No picture: the task failed. It has spent $0.00.", ""]]
    assert seen.texts == ["These cost $0.0470. Draw again pays $0.0705 for three new ones."]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("failed", "No picture: the task failed."),
        ("upstream_failed", "No picture: the task failed."),
        ("skipped", "No picture: the task was skipped."),
        ("success", "No picture: the task returned none."),
        ("deferred", "No picture yet: the task has not ended."),
        (None, "No picture yet: the task has not ended."),
    ],
)
def test_a_candidate_without_a_result_says_why(state, says):
    seen = drawn(review_body(asking(states={"picture": state}), "picture"))

    assert seen.rows[1] == [says]
    assert seen.texts[-1].endswith("Draw again pays for one new one; no result says what one costs.")


@pytest.mark.parametrize("state", ["skipped", "upstream_failed", "failed", None])
def test_what_an_earlier_run_of_a_task_returned_is_no_candidate_when_it_was_skipped_or_failed_since(state):
    """Airflow keeps the result of a task that is cleared until it runs again."""
    ti = asking(states={"picture": state}, results={("picture", -1): result()})

    seen = drawn(review_body(ti, "picture"))

    assert seen.pictures == []
    assert seen.rows[1][0].startswith("No picture")


@pytest.mark.parametrize(
    "images",
    [
        None,
        "a.png",
        [],
        ["a.png"],
        {"path": "a.png"},
    ],
    ids=repr,
)
def test_a_result_that_holds_no_images_is_a_column_without_a_picture(images):
    ti = asking(states={"picture": "success"}, results={("picture", -1): result(images=images)})

    seen = drawn(review_body(ti, "picture"))

    assert seen.rows[1] == ["No picture: the task's result has none."]
    assert seen.pictures == []


@pytest.mark.parametrize("usd", [None, 0.0235, "", "NaN", "-1", "1e999999", "9" * 40, {"a": 1}], ids=repr)
def test_a_price_that_is_no_amount_of_money_is_not_shown(usd):
    ti = asking(states={"picture": "success"}, results={("picture", -1): result(usd=usd)})

    seen = drawn(review_body(ti, "picture"))

    assert seen.rows[-1] == ["1536 × 864"]
    assert "$" not in " ".join(seen.texts)


def test_a_picture_that_nobody_stored_is_said_to_be_the_apis():
    image = {"path": None, "url": "https://file.example/a.png?Signature=s", "width": 1, "height": True}
    ti = asking(states={"picture": "success"}, results={("picture", -1): result(images=[image])})

    body = review_body(ti, "picture")

    says = "Not kept. This picture is only at the API, which does not keep it for ever."
    assert drawn(body).rows[1:] == [[says], ["$0.0235"]]
    assert "file.example" not in body


def test_all_pictures_of_a_candidate_stand_in_its_column():
    images = [{"path": "/data/0.png"}, {"path": None}, {"path": "/data/2.png"}]
    ti = asking(states={"picture": "success"}, results={("picture", -1): result(images=images)})

    seen = drawn(review_body(ti, "picture"))

    assert seen.pictures == [f"{PLACE}/picture/-1/0?size=512", f"{PLACE}/picture/-1/2?size=512"]


def test_more_candidates_than_fit_side_by_side_go_into_further_tables():
    states = {f"picture_{index}": "success" for index in range(11)}
    results = {("picture", index): result() for index in range(11)}

    seen = drawn(review_body(asking(states=states, results=results), "picture"))

    assert seen.rows[::3] == [
        ["A", "B", "C"],
        ["D", "E", "F"],
        ["G", "H", "I"],
        ["J", "K"],
    ]
    assert seen.pictures == [f"{PLACE}/picture/{index}/0?size=512" for index in range(11)]
    assert seen.texts == ["These cost $0.2585. Draw again pays $0.2585 for 11 new ones."]


@pytest.mark.parametrize(
    ("task_id", "mapped_groups", "shown"),
    [
        ("product.picture", ["product"], [1]),
        ("product.picture", ["product.inner", "product"], [1]),
        ("product.picture", [], [0, 1, 2]),
        ("picture", ["product"], [0, 1, 2]),
        ("products.picture", ["product"], [0, 1, 2]),
    ],
)
def test_in_a_mapped_task_group_each_index_asks_about_its_own_candidate(task_id, mapped_groups, shown):
    ti = asking(
        states={f"{task_id}_{index}": "success" for index in range(3)},
        results={(task_id, index): result() for index in range(3)},
        map_index=1,
        mapped_groups=mapped_groups,
    )

    seen = drawn(review_body(ti, task_id))

    assert seen.pictures == [f"{PLACE}/{task_id}/{index}/0?size=512" for index in shown]
    assert seen.texts[0].startswith("These cost $0.0235." if shown == [1] else "These cost $0.0705.")


def test_a_form_for_a_whole_data_set_shows_its_beginning_and_says_so():
    states = {f"picture_{index}": "success" for index in range(1000)}
    results = {("picture", index): result() for index in range(1000)}

    seen = drawn(review_body(asking(states=states, results=results), "picture"))

    assert len(seen.pictures) == 26
    assert seen.texts == [
        "26 of 1,000 candidates are shown.",
        "Draw again pays $23.50 for 1,000 new ones.",
    ]


def test_without_any_candidate_the_form_says_so():
    assert review_body(asking(states={}), "picture", prompt="A tent") == (
        "Prompt: A tent\n\nThere is no candidate: none of the tasks that make them has begun."
    )


def test_the_sentence_on_new_ones_begins_with_the_words_of_the_option_or_is_left_out():
    assert review_body(three(), "picture", again="New ones | *now*").endswith(
        "These cost $0.0705. New ones &#124; \\*now\\* pays $0.0705 for three new ones."
    )
    assert review_body(three(), "picture", again=None).endswith("\n\nThese cost $0.0705.")


@pytest.mark.parametrize(
    "of_data_set",
    [
        {"rows": 3, "images": 3, "stored": 3, "manifest": "/data/manifest.jsonl", "usd": "0.0705"},
        {"rows": 3, "images": 3, "dry_run": True, "usd": "0.0705"},
    ],
    ids=["made", "dry run"],
)
def test_a_task_that_makes_a_data_set_is_no_candidate_and_the_error_says_what_is_one(of_data_set):
    ti = asking(states={"posters": "success"}, results={("posters", -1): of_data_set})

    with pytest.raises(InvalidRequestError) as refused:
        review_body(ti, "posters")

    what, rule, remedy = str(refused.value).splitlines()
    assert what == "review_body: the task 'posters' makes a data set, whose images aren't in its result."
    assert rule == "A candidate is a task instance that made one picture."
    assert remedy.startswith("Map GptImageGenerateOperator over the prompts.")


HOSTILE = [
    "a | b \\| c \\\\| d",
    "one\n\n# two\n| x |\n|---|\n- three",
    "`code` ``` fence ~~~ *bold* _it_ __it__ ~~gone~~",
    "[here](https://evil.example) ![x](https://evil.example/x.png) <https://evil.example>",
    "[a]: https://evil.example\n[a] [a][a] [^1]",
    "<img src=x onerror=alert(1)> <script>alert(1)</script> <!-- -->",
    "&lt;b&gt; &#124; &amp;#124; &#x3c;",
    "{{ conn.gpt_image_default.password }} {% raw %}",
    "    indented\ttabs",
    "\\",
    "\u202egnp.exe \x00 \ud800",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_prompts_and_captions_stay_text(text):
    seen = drawn(review_body(three(), "picture", prompt=text, captions=["plain", text, text]))

    shown = single_line(text)
    assert seen.rows[2][0] == "plain"
    assert [cell.replace(NO_BREAK, "") for cell in seen.rows[2][1:]] == [shown, shown]
    assert seen.texts[0].replace(NO_BREAK, "") == f"Prompt: {shown}"
    assert (len(seen.rows), len(seen.links), len(seen.pictures), seen.others) == (4, 3, 3, set())


@given(text=st.text() | st.text("\\|`*_[]()<>&~!#-+=:.@/ \nahtpsw1;"))
def test_any_prompt_and_any_caption_stays_text(text):
    seen = drawn(review_body(three(), "picture", prompt=text, captions=[text, "b", text]))

    shown = (single_line(text) or "").replace(NO_BREAK, "")
    assert [cell.replace(NO_BREAK, "") for cell in seen.rows[2]] == [shown, "b", shown]
    assert seen.texts[0].replace(NO_BREAK, "").strip() == f"Prompt: {shown}".strip()
    assert (len(seen.rows), len(seen.links), len(seen.pictures), seen.others) == (4, 3, 3, set())


@pytest.mark.parametrize("text", ["https://evil.example", "see WWW.evil.example", "me@evil.example"])
def test_a_bare_address_is_not_made_a_link_by_airflows_form(text):
    """It knows them by these beginnings, in the text that is left when escapes are read."""
    [first, *_] = drawn(review_body(three(), "picture", prompt=text)).texts

    assert first.replace(NO_BREAK, "") == f"Prompt: {text}"
    assert not any(begin in first.lower() for begin in ("https://", "www.", "@evil"))


def test_a_long_prompt_is_cut():
    [first, *_] = drawn(review_body(three(), "picture", prompt="teapot " * 4000)).texts

    assert 400 < len(first) < 520
    assert first.endswith("…")


def test_ids_can_not_end_the_address_of_a_picture():
    ti = asking(states={"group.picture) [x](y": "success"}, results={("group.picture) [x](y", -1): result()})

    seen = drawn(review_body(ti, "group.picture) [x](y"))

    assert seen.pictures == [f"{PLACE}/group.picture%29%20%5Bx%5D%28y/-1/0?size=512"]


@pytest.mark.parametrize(
    ("task_id", "map_index", "context", "index"),
    [
        ("round.picture", 1, {"loop": SimpleNamespace(index=2)}, "loop-2-1"),
        ("round.picture", -1, {"loop": SimpleNamespace(index=0)}, "loop-0"),
        ("outside.picture", 1, {"loop": SimpleNamespace(index=2)}, "1"),
        ("round.picture", 1, {}, "1"),
    ],
    ids=["in this iteration", "not mapped", "outside of the loop", "without a loop"],
)
def test_a_picture_of_a_loop_is_that_of_the_iteration_that_asks(task_id, map_index, context, index):
    name = task_id if map_index < 0 else f"{task_id}_{map_index}"
    # Airflow tells the latest iteration's state, whichever asks.
    in_loop = index.startswith("loop")
    ti = asking(
        states={name: "failed" if in_loop else "success"},
        results={(task_id, map_index): result()},
        group="round",
        context=context,
    )

    seen = drawn(review_body(ti, task_id))

    assert seen.pictures == [f"{PLACE}/{task_id}/{index}/0?size=512"]
