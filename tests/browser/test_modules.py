"""The other modules that can be looked at by themselves."""

from __future__ import annotations

import pytest


def test_backoff_ceiling_doubles_up_to_the_cap(module):
    got = module(
        "backoff",
        """const backoff = new m.Backoff({ base: 500, cap: 30000, random: () => 1 });
        return Array.from({ length: 9 }, () => backoff.next());""",
    )
    assert got == [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]


def test_backoff_full_jitter_covers_zero_to_the_ceiling(module):
    got = module(
        "backoff",
        """const draws = Array.from({ length: 2000 }, () => new m.Backoff().next());
        return [Math.min(...draws), Math.max(...draws)];""",
    )
    assert 0 <= got[0] < 25
    assert 475 < got[1] <= 500


@pytest.mark.parametrize(("lived", "expected"), [(9_999, 4000), (10_000, 500)])
def test_backoff_starts_anew_only_after_a_stable_connection(module, lived, expected):
    got = module(
        "backoff",
        """const backoff = new m.Backoff({ random: () => 1 });
        for (let i = 0; i < 3; i += 1) backoff.next();
        backoff.opened(0);
        backoff.ended(arg);
        return backoff.next();""",
        lived,
    )
    assert got == expected


def test_positions_survive_in_storage_under_the_user(module):
    got = module(
        "store",
        """const before = new m.Positions(m.webStore());
        before.open("7");
        before.set("user.7.notifications", { seq: 12, epoch: "e" });
        before.flush();
        const after = new m.Positions(m.webStore());
        after.open("8");
        const other = after.get("user.7.notifications");
        after.open("7");
        return [other, after.get("user.7.notifications")];""",
    )
    assert got == [None, {"seq": 12, "epoch": "e"}]


def test_positions_garbage_in_storage_counts_as_none(module):
    got = module(
        "store",
        """sessionStorage.setItem("gateway.positions.7", arg);
        return m.webStore().load("7");""",
        '{"a": {"seq": "x"}, "b": {"seq": 3}, "c": null}',
    )
    assert got == {"b": {"seq": 3, "epoch": None}}


def test_positions_blocked_storage_is_memory(module):
    got = module(
        "store",
        """const blocked = m.webStore(() => { throw new DOMException("no", "SecurityError"); });
        const positions = new m.Positions(blocked);
        positions.open("7");
        positions.set("t", { seq: 1, epoch: null });
        positions.flush();
        return positions.get("t");""",
    )
    assert got == {"seq": 1, "epoch": None}


def test_positions_are_bounded(module):
    got = module(
        "store",
        """const positions = new m.Positions(m.memoryStore());
        positions.open("7");
        for (let i = 0; i < 500; i += 1) positions.set(`t${i}`, { seq: i, epoch: null });
        return [positions.topics.size, positions.get("t0"), positions.get("t499").seq];""",
    )
    assert got == [200, None, 499]


@pytest.mark.parametrize(
    ("code", "expected"),
    [(1000, True), (1001, True), (1006, True), (1008, True), (1009, True), (1011, True),
     (1012, True), (1013, True), (4000, True), (4003, True), (4499, True), (4500, False),
     (4502, False), (4999, False)],
)  # fmt: skip
def test_close_code_says_whether_to_come_back(module, code, expected):
    assert module("errors", "return m.comesBack(arg);", code) is expected


def test_state_walks_through_a_life(module):
    got = module(
        "state",
        """const lost = { type: "lost", retryAt: 5, online: true, code: 1006, reason: "" };
        let state = m.CLOSED;
        return [{ type: "attempt" }, { type: "ready" }, lost, { type: "attempt" },
            { ...lost, online: false }, { type: "network", online: true }, { type: "ready" },
            { type: "denied", code: 4502, reason: "" }, { type: "network", online: false },
            { type: "close" }].map((change) => (state = m.reduce(state, change)).name);""",
    )
    assert got == [
        "connecting", "open", "reconnecting", "reconnecting", "offline", "reconnecting", "open",
        "denied", "denied", "closed",
    ]  # fmt: skip


def test_message_base64_becomes_bytes(module):
    got = module(
        "frames",
        """const { data, seqNo } = m.messageFrom({ topic: "t", data: "AP9B", encoding: "base64" });
        return [data instanceof Uint8Array, [...data], seqNo];""",
    )
    assert got == [True, [0, 255, 65], None]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', '{"type": 1}', "1"])
def test_parse_frame_of_something_else_is_null(module, text):
    assert module("frames", "return m.parseFrame(arg);", text) is None


def test_random_id_without_random_uuid_is_a_uuid(module):
    got = module(
        "frames",
        """const plain = { getRandomValues: (bytes) => crypto.getRandomValues(bytes) };
        return [m.randomId(plain), m.randomId(plain)];""",
    )
    assert got[0] != got[1]
    assert got[0][14] == "4"
    assert got[0][19] in "89ab"
    assert [len(part) for part in got[0].split("-")] == [8, 4, 4, 4, 12]


@pytest.mark.parametrize(
    ("data", "title", "body"),
    [
        ("hello", "hello", ""),
        ("", "(empty)", ""),
        ({"title": "T", "body": "B"}, "T", "B"),
        ({"title": "T", "message": "M"}, "T", "M"),
        ({"text": "X"}, "X", ""),
        ({"title": 7}, "7", ""),
        ("<b>bold</b>", "<b>bold</b>", ""),
    ],
)
def test_content_of_words(module, data, title, body):
    got = module("content", "return m.contentOf(arg);", data)
    assert (got["title"], got["body"], got["json"]) == (title, body, "")


@pytest.mark.parametrize("data", [{"cpu": 1}, [1, 2], 5, None, True, {"title": {"x": 1}}])
def test_content_of_anything_else_is_pretty_json(module, data):
    got = module("content", "return [m.contentOf(arg).json, JSON.stringify(arg, null, 2)];", data)
    assert got[0] == got[1]


def test_content_of_bytes_is_text_where_it_is_text(module):
    got = module(
        "content",
        """return [m.contentOf(new TextEncoder().encode("grüezi")).title,
            m.contentOf(new Uint8Array([255, 254])).title];""",
    )
    assert got == ["grüezi", "2 bytes that are not text"]


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://example.org/a", True),
        ("/orders/7", True),
        ("javascript:alert(1)", False),
        (" jaVa\tscript:alert(1)", False),
        ("data:text/html,x", False),
        ("file:///etc/passwd", False),
        ("http://", False),
        (7, False),
    ],
)
def test_content_link_is_web_or_nothing(module, url, safe):
    got = module("content", "return m.contentOf({ title: 'T', url: arg }).url;", url)
    assert (got is not None) is safe


@pytest.mark.parametrize(
    ("state", "short", "long", "tone"),
    [
        ({"name": "open"}, "Connected", "Connected", "good"),
        ({"name": "connecting"}, "Connecting…", "Connecting…", "wait"),
        (
            {"name": "reconnecting", "retryAt": 4000},
            "Reconnecting…",
            "Reconnecting in 4 s…",
            "wait",
        ),
        (
            {"name": "reconnecting", "retryAt": 3001},
            "Reconnecting…",
            "Reconnecting in 4 s…",
            "wait",
        ),
        ({"name": "reconnecting"}, "Reconnecting…", "Reconnecting…", "wait"),
        ({"name": "offline"}, "Offline", "You are offline.", "bad"),
        ({"name": "denied", "code": 4500}, "Signed out", "Signed out.", "bad"),
        ({"name": "denied", "code": 4502}, "Signed out", "Signed out.", "bad"),
        ({"name": "denied", "code": 4504}, "Not connected", "Too many pages are open.", "bad"),
        ({"name": "closed"}, "Disconnected", "Disconnected", "bad"),
    ],
)
def test_words_for_every_state(module, state, short, long, tone):
    full = {"retryAt": None, "code": None, "reason": "", **state}
    got = module("words", "return m.describe(arg, 0);", full)
    assert (got["short"], got["tone"]) == (short, tone)
    assert got["long"].startswith(long)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (0, "just now"), (59, "just now"), (60, "1 minute ago"),
     (7_300, "2 hours ago"), (86_400, "yesterday"), (300_000, "3 days ago")],
)  # fmt: skip
def test_ago_in_words(module, seconds, words):
    assert module("words", "return m.ago(0, arg * 1000);", seconds) == words


def test_inbox_sorts_and_drops_what_is_known(module):
    got = module(
        "inbox",
        """const inbox = new m.Inbox();
        inbox.add([5, 3].map((seqNo) => ({ seqNo })));
        const fresh = inbox.add([3, 4].map((seqNo) => ({ seqNo })));
        const seqs = (items) => items.map(({ seqNo }) => seqNo);
        return [seqs(inbox.items), seqs(fresh), inbox.oldest];""",
    )
    assert got == [[5, 4, 3], [4], 3]


def test_inbox_mark_is_not_taken_back_by_a_late_answer_that_knows_of_none(module):
    got = module(
        "inbox",
        """const { NOTHING } = await import("/static/realtime/read-mark.js");
        const inbox = new m.Inbox();
        inbox.mark = { epoch: "e", seq: 2 };
        inbox.mark = NOTHING;
        return inbox.mark;""",
    )
    assert got == {"epoch": "e", "seq": 2}


def test_inbox_mark_counts_for_its_stream_only(module):
    got = module(
        "inbox",
        """const inbox = new m.Inbox();
        inbox.mark = { epoch: "old", seq: 100 };
        inbox.add([1, 2].map((seqNo) => ({ seqNo })));
        inbox.epoch = "old";
        const before = inbox.unread;
        inbox.epoch = "new";
        const after = inbox.unread;
        inbox.markAllRead();
        return [before, after, inbox.unread, inbox.mark];""",
    )
    assert got == [0, 2, 0, {"epoch": "new", "seq": 2}]
