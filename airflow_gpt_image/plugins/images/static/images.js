// The pages of the Images tab: each draws one JSON document, embedded in the page and asked for again.
//
// What a document holds was written by anybody, so there is one way into the page: `h`, which sets texts and
// attributes and takes only https and this server's own addresses. Nothing is ever parsed as HTML.

const STATIC = new URL(".", import.meta.url).pathname;
const PREFIX = STATIC.slice(0, STATIC.lastIndexOf("/static/"));
const AIRFLOW = PREFIX.slice(0, PREFIX.lastIndexOf("/"));
const PLACE = location.pathname.slice(PREFIX.length + 1);
const POLL_MS = 3_000;
const SAY_AGAIN_MS = 10_000;
const TYPING_MS = 100;

// ---- Elements -----------------------------------------------------------------------------------

const ADDRESSES = new Set(["src", "href"]);
const SVG = "http://www.w3.org/2000/svg";

/** Return an address that may be loaded or followed: https, or this server's own; null for all others. */
function safeAddress(value) {
  if (typeof value !== "string" || !value) return null;
  try {
    const url = new URL(value, location.href);
    const own = url.origin === location.origin && /^https?:$/.test(url.protocol);
    return own || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** Make an element: `tag.class`, attributes, children; a null attribute or child is left out. */
function h(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const drawn = tag in { svg: 1, path: 1, rect: 1, title: 1 };
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, given] of Object.entries(attributes ?? {})) {
    const value = ADDRESSES.has(key) ? safeAddress(given) : given;
    if (value === null || value === undefined || key.startsWith("on")) continue;
    if (typeof value !== "boolean" || key.startsWith("aria-")) element.setAttribute(key, String(value));
    else if (value) element.setAttribute(key, "");
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

const alike = (one, other) =>
  one.nodeName === other.nodeName &&
  (one.nodeType !== 1 ||
    (one.classList[0] === other.classList[0] && one.dataset?.key === other.dataset?.key));

/** Change a tree into another one, keeping elements that are in both: focus, scrolling and images stay. */
function morph(from, to) {
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  const keyed = new Map();
  for (const child of from.children) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  let at = from.firstChild;
  for (const child of [...to.childNodes]) {
    let old = keyed.get(child.dataset?.key);
    if (!child.dataset?.key) for (old = at; old && !alike(old, child);) old = old.nextSibling;
    if (!old) {
      from.insertBefore(child, at);
      continue;
    }
    if (child.dataset?.key && old !== at) from.insertBefore(old, at);
    else {
      while (at !== old) {
        const next = at.nextSibling;
        at.remove();
        at = next;
      }
      at = old.nextSibling;
    }
    if (old.nodeType === 1) morph(old, child);
    else if (old.data !== child.data) old.data = child.data;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const PATHS = {
  done: "M20 6 9 17l-5-5",
  failed: "M18 6 6 18M6 6l12 12",
  in_flight: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 7v5l3 2",
  unknown: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M9.3 9.2a2.8 2.8 0 0 1 5.4.9c0 1.9-2.7 2.6-2.7 2.6M12 16.5v.1",
  not_sent: "M5 12h14",
  alert: "M12 3.5 2.5 20h19ZM12 10v4M12 17v.1",
  copy: "M9 9h11v11H9ZM5 15H4V4h11v1",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  full: "M15 4h5v5M20 4 4 20M9 20H4v-5",
  search: "M11 4a7 7 0 1 0 0 14a7 7 0 1 0 0-14M20 20l-4-4",
  before: "M15 5l-7 7 7 7",
  after: "M9 5l7 7-7 7",
  close: "M18 6 6 18M6 6l12 12",
  image: "M4 4h16v16H4ZM4 17l5-5 4 4 3-3 4 4M8.5 7.5a1 1 0 1 0 0 2a1 1 0 1 0 0-2",
  gone: "M8 4h12v12M20 20H4V4M3 3l18 18",
  store: "M4 6c0-4 16-4 16 0v12c0 4-16 4-16 0ZM4 6c0 4 16 4 16 0M4 12c0 4 16 4 16 0",
  lock: "M5 11h14v9H5ZM8 11V7.5a4 4 0 0 1 8 0V11",
};
const icon = (name) =>
  h(
    "svg.icon",
    { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    h("path", { d: PATHS[name] }),
  );

/** Make a text's elements: `code` in backticks, **bold**. */
const words = (text) =>
  String(text ?? "")
    .split(/(`[^`]+`|\*\*[^*]+\*\*)/)
    .map((part) =>
      /^`[^`]+`$/.test(part)
        ? h("code", null, part.slice(1, -1))
        : /^\*\*.+\*\*$/.test(part)
          ? h("b", null, part.slice(2, -2))
          : part,
    );

const CODE = /^(?:`([^`]+)`|(gallery_roots = .+))$/;
/** Make paragraphs of a text's lines; a line that is all `code`, or a setting, can be copied. */
const paragraphs = (text) =>
  String(text ?? "")
    .split("\n")
    .filter(Boolean)
    .map((line) => {
      const code = CODE.exec(line);
      return code ? codeBlock(code[1] ?? code[2]) : h("p", null, words(line));
    });

const codeBlock = (text) =>
  h("div.code", null, h("code", { "data-text": true, tabindex: 0 }, text), copyButton("Copy"));
const copyButton = (name) =>
  h("button.quiet", { type: "button", "data-do": "copy", "aria-label": name, title: name }, icon("copy"));

// ---- Numbers, times, words ----------------------------------------------------------------------

const count = (number) => Number(number ?? 0).toLocaleString("en-US");
const images = (number) => `${count(number)} ${number === 1 ? "image" : "images"}`;
const dollars = (text) =>
  Number(text) === 0 && !/\.\d\d$/.test(text)
    ? "$0"
    : `$${String(text).replace(/^\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ","))}`;
const has = (value) => value !== null && value !== undefined && value !== "";
const moment = (iso) => (has(iso) && !Number.isNaN(Date.parse(iso)) ? new Date(iso) : null);
const day = (iso, options = {}) =>
  moment(iso)?.toLocaleString("en-US", { month: "short", day: "numeric", timeZone: "UTC", ...options }) ??
  iso;
const minute = (iso) => day(iso, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clock = (iso) => moment(iso)?.toISOString().slice(11, 19);
const time = (iso) => {
  const text = moment(iso)?.toISOString();
  return (
    text &&
    h("time", { datetime: text }, `${text.slice(0, 10)} ${text.slice(11, 19)}`, h("span.muted", null, " UTC"))
  );
};

// The server's clock and the browser's may differ: a document says when it was made.
let clockSkew = 0;
let heardAt = Date.now();

/** Return how long ago something was, in words that tick. */
function ago(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}
const ticking = {
  since: (iso) => ago(Date.now() - clockSkew - Date.parse(iso)),
  heard: () => ago(Date.now() - heardAt),
};
const ticks = (kind, value = "") =>
  h("span.number", { "data-tick": kind, "data-of": value }, ticking[kind](value));

const ORDER = ["done", "failed", "unknown", "in_flight", "not_sent"];
const statusWord = (status) =>
  ({ done: "Done", failed: "Failed", unknown: "Unknown", not_sent: "Not sent" })[status] ??
  (page.kind === "batch" ? "In flight" : "Waiting");

// ---- Parts: figures, bar, chips, tiles ----------------------------------------------------------

const figures = (list) =>
  (list ?? []).length > 0 &&
  h(
    "dl.figures",
    null,
    list.map((one) =>
      h(
        "div",
        null,
        h("dt", null, one.label),
        h("dd", null, one.value, has(one.note) && h("small", null, ` ${one.note}`)),
      ),
    ),
  );

/** Draw how many there are of each status; each that exists can be seen. */
function statusBar(counts) {
  const shares = ORDER.filter((status) => counts[status] > 0).map((status) => [
    status,
    Math.max(counts[status] / counts.all, 0.003),
  ]);
  const whole = shares.reduce((sum, [, share]) => sum + share, 0);
  let x = 0;
  const parts = shares.map(([status, share]) => {
    const width = (share / whole) * 100;
    const part = h(`rect.mark.${status}`, { x: `${x}%`, width: `${width}%`, height: 8 });
    x += width;
    return part;
  });
  const said = shares
    .map(([status]) => `${count(counts[status])} ${statusWord(status).toLowerCase()}`)
    .join(", ");
  return h("svg.bar", { role: "img", "aria-label": said || "Nothing yet", height: 8 }, parts);
}

function chips(counts) {
  const chosen = query.status ?? null;
  const shown = ORDER.filter((status) => counts[status] > 0 || chosen === status);
  const chip = (status, name, number) =>
    h(
      "button.chip",
      {
        type: "button",
        "data-do": "status",
        "data-value": status,
        "aria-pressed": (status || null) === chosen,
      },
      status && h(`span.mark.${status}`),
      `${name} `,
      h("b", null, count(number)),
    );
  return h(
    "div.chips",
    { role: "group", "aria-label": "Status" },
    chip("", "All", counts.all),
    shown.map((status) => chip(status, statusWord(status), counts[status])),
  );
}

const broken = new Set();

/** Draw what stands in a box in place of a picture. */
const sign = (status, name, reason) =>
  h(
    "span.sign",
    null,
    h("span.word", null, h(`span.ink.${status}`, null, icon(PATHS[status] ? status : "image")), name),
    has(reason) && h("span.reason", null, reason),
  );

function thumbnail(image, alt = "", size = 256) {
  const [first, second] = [safeAddress(image.thumb), safeAddress(image.thumb2)];
  const srcset = first && second && second !== first ? `${first} 1x, ${second} 2x` : null;
  return h("img", { src: first, srcset, alt, width: size, height: size, loading: "lazy", decoding: "async" });
}

/** Draw a tile's square: its picture, or why there is none. */
function box(tile) {
  const image = tile.image;
  if (image && !image.problem && safeAddress(image.thumb) && !broken.has(safeAddress(image.thumb))) {
    return h("span.box", null, thumbnail(image));
  }
  if (image)
    return h("span.box.bare", null, sign("store", "Not shown", image.problem ?? "The picture did not load."));
  return h("span.box.bare", null, sign(tile.status, statusWord(tile.status), tile.reason ?? tile.money));
}

/** Draw a sheet's tile: a button that opens the panel, or a link to the tile's own page. */
function tileItem(tile, opens) {
  const label = [tile.caption, statusWord(tile.status), tile.sub].filter(has).join(", ");
  const inside = [box(tile), h("span.caption", null, tile.caption), h("span.sub", null, tile.sub)];
  if (opens) {
    const current = tile.key === sheetAt();
    const attributes = {
      type: "button",
      "data-do": "open",
      "data-value": tile.key,
      "aria-label": label,
      tabindex: current ? 0 : -1,
    };
    return h("li", { "data-key": `t${tile.key}` }, h("button.tile", attributes, inside));
  }
  const link = tile.place
    ? linkTo(tile.place, { "aria-label": label }, inside, "a.tile")
    : h("span.tile", null, inside);
  return h("li", { "data-key": `t${tile.key}@${tile.place ?? ""}` }, link);
}
const tiles = (list) =>
  h(
    "ul.tiles",
    null,
    (list ?? []).map((tile) => tileItem(tile, false)),
  );

const select = (name, action, options, value, unnamed = false) =>
  h(
    "label.select",
    null,
    h(unnamed ? "span.hidden" : "span", null, name),
    h(
      "select",
      { "data-do": action, "data-now": value },
      options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
    ),
  );

// ---- One picture and its facts ------------------------------------------------------------------

const shownImage = new Map();

/** Return a picture's shape in pixels, or one of its ratio. */
function shape(picture, image) {
  if (image?.width > 0 && image?.height > 0) return [image.width, image.height];
  const [, wide, high] = /^(\d{1,3}):(\d{1,3})$/.exec(picture.ratio ?? "") ?? [0, 1, 1];
  return [wide * 100 || 100, high * 100 || 100];
}
const chosenImage = (picture) =>
  picture.images?.[shownImage.get(picture.key) ?? 0] ?? picture.images?.[0] ?? picture.image ?? null;

/** Draw a picture as large as there is room, its other pictures below; or what is there in its place. */
function stage(picture, preview) {
  const image = chosenImage(picture);
  if (image) {
    const several =
      (picture.images?.length ?? 0) > 1 &&
      h(
        "ul.strip",
        { "aria-label": "Images" },
        picture.images.map((one, index) => strip(picture, one, index, image)),
      );
    return h("div.stage", null, large(picture, image, preview), several);
  }
  if (!picture.images && picture.status !== "in_flight") {
    // Its details are on their way: what the tile says is right, and nothing more is known.
    return h(
      "div.stage",
      null,
      h(
        "div.card",
        null,
        icon(picture.status),
        h("h2", null, statusWord(picture.status)),
        h("p", null, picture.reason),
        h("p", null, picture.money),
      ),
    );
  }
  if (picture.status === "failed") return h("div.stage", null, failure(picture));
  if (picture.status === "unknown") return h("div.stage", null, doubt(picture));
  const [width, height] = shape(picture, null);
  return h(
    "div.stage",
    null,
    h(
      "div.waiting",
      null,
      // It has the picture's shape, so that nothing moves when the picture comes.
      h("svg.sizer", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }),
      h(
        "div",
        null,
        picture.status === "in_flight" && h("span.pulse"),
        h("h2", null, picture.status === "in_flight" ? "The API is making this picture" : "Not sent yet"),
        h(
          "p.number",
          null,
          has(picture.since) && [ticks("since", picture.since), " so far"],
          [picture.ratio, picture.tier]
            .filter(has)
            .map((part, index) => `${index || has(picture.since) ? " · " : ""}${part}`),
        ),
        h(
          "p.fine",
          null,
          picture.status === "in_flight"
            ? [
                "This page shows it when it is stored.",
                picture.deferred && " No worker slot is held meanwhile.",
              ]
            : picture.reason,
        ),
      ),
    ),
  );
}

const strip = (picture, image, index, shown) =>
  h(
    "li",
    null,
    h(
      "button.thumb",
      {
        type: "button",
        "data-do": "image",
        "data-value": index,
        "data-of": picture.key,
        "aria-pressed": image === shown,
        "aria-label": `Image ${index + 1} of ${picture.images.length}`,
      },
      image.problem ? icon("store") : thumbnail(image, "", 96),
    ),
  );

function large(picture, image, preview) {
  const source = safeAddress(image.stage);
  if (image.problem || !source || broken.has(source)) return unseen(image, picture, source);
  const [width, height] = shape(picture, image);
  const shown = preview && !loaded.has(source) ? (safeAddress(preview) ?? source) : source;
  return h("img.large", {
    src: shown,
    alt: picture.prompt || picture.caption,
    width,
    height,
    decoding: "async",
  });
}

/** Say why a picture isn't shown. Its first line is a heading where there are two. */
function unseen(image, picture, source) {
  const lost =
    picture.kept === false ? "The API has it no more, or can't be reached." : "The picture did not load.";
  // That it isn't kept is said above, with what to do.
  const problem = /^Not kept\./.test(image.problem) ? "Not shown here." : image.problem;
  const told = String(problem ?? reasons.get(source) ?? lost);
  const [, first, rest] = /^([^\n]+?[.:])\s+(?=[A-Z])([^]+)$/.exec(told) ?? [null, told, ""];
  return h(
    "div.card",
    null,
    icon("store"),
    h("h2", null, first.trim().replace(/\.$/, "")),
    paragraphs(rest),
    has(image.path) && codeBlock(image.path),
  );
}

const notice = (tone, title, ...inside) =>
  h(
    `section.notice.${tone}`,
    null,
    icon(tone === "unknown" ? "unknown" : "alert"),
    h("div", null, h("h2", null, title), inside),
  );
const above = () => (tabbed ? " with ↻ above" : " in Airflow");
const inCredits = (picture) => has(picture.credits) && h("span.muted", null, ` (${picture.credits} credits)`);
const priced = (picture, amount = picture.price) => has(amount) && [dollars(amount), inCredits(picture)];

const KEEP_STATE = " with “Keep task state and resume” ticked";

/** Say what failed (the API, its picture on the way to us, the task), the money, and what to do. */
function failure(picture) {
  const answer = [picture.code, picture.message].filter(has).join(": ") || picture.reason;
  const paid = Number(picture.paid) > 0 && !picture.refunded;
  const ofApi = has(picture.code) || picture.refunded;
  const title = paid
    ? "The picture is paid for and not stored"
    : ofApi
      ? "The API could not make this picture"
      : "The task failed before anything was paid";
  const money = picture.refunded
    ? "Refunded."
    : paid
      ? `Paid: ${dollars(picture.paid)}.`
      : "Nothing was charged.";
  const again = ["Clear the task", above()];
  const pays = has(picture.price) ? [". A new try pays ", priced(picture), " once."] : " to try again.";
  const steps = paid
    ? [[again, picture.outlives_clear ? "" : KEEP_STATE, ": it is fetched again without a new charge."]]
    : ofApi
      ? [
          "If the prompt may hold something the API refuses, change it in the Dag.",
          [again, pays],
          [
            "If it fails again with another prompt, the service may be down: wait, or set ",
            h("code", null, "retries"),
            ".",
          ],
        ]
      : ["Mend in the Dag, or in the connection, what it says.", [again, pays]];
  return [
    notice(
      "failed",
      title,
      has(answer) && [
        h("p.muted", null, ofApi && !paid ? "It answered:" : "It said:"),
        h("blockquote", null, answer),
      ],
      h(
        "p",
        null,
        h("b", null, money),
        has(picture.spent) && ` This task has spent ${dollars(picture.spent)}.`,
      ),
    ),
    page.kind === "single" &&
      h(
        "section",
        null,
        h("h2.minor", null, "What to do"),
        h(
          "ol.steps",
          null,
          steps.map((step) => h("li", null, h("span", null, step))),
        ),
      ),
  ];
}

function doubt(picture) {
  const at = clock(picture.since);
  const paid = [
    has(picture.price) && [" At stake: ", h("b", null, dollars(picture.price)), inCredits(picture), "."],
    " Nothing is sent again until you decide.",
  ];
  return [
    notice(
      "unknown",
      "This picture may or may not be paid for",
      h(
        "p",
        null,
        at
          ? `The request was sent at ${at} UTC and no answer came back.`
          : "The request was sent and no answer came back.",
        paid,
      ),
    ),
    h(
      "h2.minor",
      null,
      at
        ? `Look in your account: is there a charge at ${at} UTC?`
        : "Look in your account: is there a charge?",
    ),
    (picture.deciding ?? []).map((one) =>
      h(
        "section.card",
        null,
        h("h3", null, one.title),
        paragraphs(String(one.text).replace("clear the task.", `clear the task${above()}.`)),
      ),
    ),
  ];
}

/** Say that only the API has a picture, and what can be done. */
function notKept(picture) {
  const begin = isUsable(chosenImage(picture)) ? "Download it now, or set " : "Set ";
  const again = `${picture.outlives_clear ? "" : KEEP_STATE}: fetching it again pays nothing.`;
  const told = "This picture is only at the API, which does not keep it for ever. ";
  const set = [begin, h("code", null, 'destination="…"'), " on the task and clear it", again];
  return notice("unknown.alert", "Not kept", h("p", null, told, set));
}

const fact = (label, value, wide = false) =>
  has(value) &&
  value !== false &&
  h(wide ? "div.wide" : "div", null, h("dt", null, label), h("dd", null, value));
const copied = (label, value, name) =>
  has(value) &&
  h(
    "div.wide",
    null,
    h("dt", null, label),
    h("dd.copied", null, h("code", { "data-text": true }, value), copyButton(name)),
  );

/** List what is known of a picture; of one whose details are still on their way only the prompt. */
function facts(picture, known = true) {
  const image = chosenImage(picture);
  const status = picture.status;
  const tries = picture.tries;
  const list = [
    image?.width && image?.height && fact("Size", `${image.width} × ${image.height}`),
    has(picture.ratio) &&
      (status === "done" || status === "not_sent") &&
      fact("Ratio", [picture.ratio, has(picture.tier) && h("span.muted", null, ` · ${picture.tier}`)]),
    status === "unknown"
      ? fact("At stake", priced(picture))
      : fact(
          status === "done" || status === "not_sent" ? "Price" : "Charged",
          priced(picture, status === "failed" && Number(picture.paid) > 0 ? picture.paid : picture.price),
        ),
    status === "in_flight" && fact("API status", picture.api_status ?? "processing"),
    status === "in_flight" && fact("If it fails", "refunded by the API", true),
    status === "failed" && picture.refunded && fact("Refunded", dollars(picture.price ?? "0")),
    status === "failed" && tries && fact("Tries", `${tries.number} of ${tries.most}`),
    ["done", "failed"].includes(status) && has(picture.seconds) && fact("Took", `${picture.seconds} s`),
    status === "unknown" && fact("Sent", has(picture.since) && `${clock(picture.since)} UTC`),
    status === "unknown" && fact("Why", picture.message, true),
    status === "unknown" && copied("Connection", picture.connection, "Copy connection"),
    has(picture.row) && fact("Row", count(picture.row)),
    has(picture.variant) && fact("Variant", String(picture.variant)),
    Object.entries(picture.columns ?? {}).map(([name, value]) =>
      fact(name, value, String(value).length > 24),
    ),
    status === "done" &&
      (has(image?.path)
        ? copied("Stored at", image.path, "Copy path")
        : picture.kept === false && fact("Stored at", "nowhere of yours", true)),
    copied("Generation", picture.generation_id, "Copy generation id"),
    status === "in_flight" && has(picture.since) && fact("Submitted", time(picture.since), true),
    status === "done" && has(picture.time) && fact("Made", time(picture.time), true),
  ];
  return h(
    "div.facts",
    null,
    picture.reused && h("p", null, h("span.badge.done", null, "Reused, nothing paid")),
    has(picture.prompt) && h("div.prompt", null, h("h2.label", null, "Prompt"), h("p", null, picture.prompt)),
    known && h("dl", null, list),
  );
}

const isUsable = (image) => {
  const source = safeAddress(image?.stage);
  return source !== null && !image.problem && !broken.has(source);
};

function actions(picture) {
  const image = chosenImage(picture);
  const usable = isUsable(image);
  const own =
    page.kind !== "single" && picture.place && h("span.own", null, linkTo(picture.place, {}, ["Open task"]));
  if (!usable && !own) return null;
  return h(
    "div.actions",
    null,
    usable &&
      safeAddress(image.download) &&
      h("a.button.primary", { href: image.download, download: "" }, icon("download"), "Download"),
    usable &&
      safeAddress(image.full) &&
      h(
        "button.button",
        {
          type: "button",
          "data-do": "full",
          "data-value": safeAddress(image.full),
          "data-alt": picture.prompt || picture.caption,
        },
        icon("full"),
        "Full size",
      ),
    own,
  );
}

const one = (picture) =>
  h("div.one", null, stage(picture), h("div.side", null, facts(picture), actions(picture)));

// ---- The kinds of pages -------------------------------------------------------------------------

const placeSwitch = (given) =>
  given &&
  h(
    "nav.switch",
    { "aria-label": "Images" },
    [
      ["this", "This image"],
      ["all", `All ${count(given.count)}`],
    ].map(([which, name]) =>
      h(
        "a",
        {
          href: `${PREFIX}/${safePlace(given[which])}`,
          "aria-current": given.current === which ? "page" : null,
        },
        name,
      ),
    ),
  );

/** Say what came of a sheet's images in dollars: what was paid first. */
const spent = (list) =>
  h(
    "p.spent",
    null,
    (list ?? [])
      .filter((one) => /^\$/.test(one.value))
      .map((one, index) => [
        index > 0 && " · ",
        h(index ? "span" : "b", null, one.value),
        ` ${one.label.toLowerCase()}`,
      ]),
  );

const live = () =>
  trouble
    ? h("p.live.stale", null, `Not updated for `, ticks("heard"), `. ${trouble}`)
    : page.live && h("p.live", null, h("span.dot"), "Live · updated ", ticks("heard"), " ago");

const pager = (name = "Pages") =>
  (page.pages > 1 || page.total > 0) &&
  h(
    "nav.pager",
    { "aria-label": name },
    h("span.number", null, `${count(page.first)}–${count(page.last)} of ${count(page.total)}`),
    page.pages > 1 &&
      [
        ["before", "Previous page", page.page > 1],
        ["after", "Next page", page.page < page.pages],
      ].map(([way, name, can]) =>
        h(
          "button.small",
          {
            type: "button",
            "data-do": "page",
            "data-value": page.page + (way === "after" ? 1 : -1),
            "aria-label": name,
            disabled: !can,
          },
          icon(way),
        ),
      ),
  );

function sheet() {
  const batch = page.kind === "batch";
  const captions = page.captions ?? [];
  const placeholder = batch
    ? `Filter by ${captions[0] && captions[0] !== "prompt" ? `${captions[0]}, ` : ""}prompt or any column  ( / )`
    : "Filter by prompt";
  const field = h(
    "label.field",
    null,
    icon("search"),
    h("span.hidden", null, "Filter"),
    h("input", {
      type: "search",
      placeholder,
      value: query.text ?? "",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: 200,
    }),
  );
  const tools = [
    field,
    captions.length > 1 &&
      select(
        "Caption",
        "caption",
        captions.map((name) => [name, name]),
        page.caption ?? captions[0],
      ),
    batch &&
      select(
        "Sort",
        "sort",
        [
          ["row", "Row"],
          ["price", "Price"],
          ["seconds", "Seconds"],
          ["status", "Status"],
        ],
        query.sort ?? "row",
      ),
    (batch || page.pages > 1) && pager(),
  ];
  const links = (page.links ?? []).map(
    (link) => has(link.url) && h("a", { href: link.url, download: "" }, link.label),
  );
  const top = batch
    ? [
        placeSwitch(page.switch),
        figures(page.figures),
        h("div.aside", null, live(), links.some(Boolean) && h("p.links", null, links)),
      ]
    : [
        placeSwitch(page.switch),
        h("p.counted", null, `${count(page.counts.done)} of ${images(page.counts.all)}`),
        spent(page.figures),
        live(),
      ];
  const none = page.total === 0 && page.counts.all > 0;
  return [
    h(
      "header.head",
      null,
      h("div.top", null, top),
      statusBar(page.counts),
      batch
        ? [chips(page.counts), h("div.tools", null, tools)]
        : h("div.tools", null, chips(page.counts), tools),
    ),
    none
      ? nothingMatches(captions)
      : h(
          "ul.tiles.sheet",
          { "aria-label": "Images" },
          page.tiles.map((tile) => tileItem(tile, true)),
        ),
    page.pages > 1 && h("div.foot", null, pager("Pages, below")),
  ];
}

function nothingMatches(captions) {
  const what = query.text
    ? `Nothing matches “${query.text}”`
    : `Nothing is ${statusWord(query.status).toLowerCase()}`;
  const where = [captions[0] !== "prompt" && captions[0], "prompt or another column"]
    .filter(Boolean)
    .join(", ");
  const why = query.text
    ? `${images(page.counts.all)}, none of them with this in ${page.kind === "batch" ? where : "its prompt"}.`
    : `${images(page.counts.all)}, none of them with this status.`;
  return h(
    "div.card",
    null,
    icon("search"),
    h("h2", null, what),
    h("p.muted", null, why),
    h("button.small", { type: "button", "data-do": "clear" }, "Clear filters"),
  );
}

function single() {
  const picture = page.picture;
  const unkept = picture.status === "done" && picture.kept === false;
  return [h("div.top", null, placeSwitch(page.switch)), unkept && notKept(picture), one(picture)];
}

const task = (one) =>
  h(
    "section",
    { "data-key": `k${one.task_id}` },
    h(
      "h2",
      null,
      linkTo(one.place, {}, [one.task_id], "a.plain"),
      " ",
      h(
        "span.muted",
        null,
        `${one.counts.done < one.counts.all ? `${count(one.counts.done)} of ` : ""}${images(one.counts.all)} · ${dollars(one.usd)}`,
      ),
    ),
    tiles(one.tiles),
    one.more > 0 && h("p", null, linkTo(one.place, {}, [`Show all ${count(one.count)}`], "a.small")),
  );

const run = () => [
  figures(page.figures),
  live(),
  (page.tasks ?? []).map(task),
  !page.tasks?.length && h("p.muted", null, "No images in this run yet."),
];

/** Draw how large a share is, upright or lying. */
const upright = (share) =>
  h(
    "svg.upright",
    { "aria-hidden": "true", preserveAspectRatio: "none" },
    h("rect", { y: `${100 - size(share)}%`, width: "100%", height: `${size(share)}%` }),
  );
const lying = (share) =>
  h("svg.lying", { "aria-hidden": "true" }, h("rect", { width: `${size(share)}%`, height: "100%" }));
const size = (share) => Math.min(100, Math.max(0, Number(share) || 0) * 100);

function dag() {
  const runs = page.runs ?? [];
  const chosen = page.chosen;
  const inChosen = Array.isArray(chosen) ? chosen : (chosen?.tasks ?? []);
  const now = query.run ?? chosen?.run_id ?? runs[0]?.run_id;
  const open = chosen?.run_id ? chosen : runs.find((one) => one.run_id === now);
  const listed = runs.some((one) => one.run_id === now);
  const item = (one, index) =>
    h(
      "li",
      { "data-key": `r${one.run_id}` },
      h(
        "button.run",
        {
          type: "button",
          "data-do": "run",
          "data-value": one.run_id,
          "aria-pressed": one.run_id === now,
          tabindex: one.run_id === now || (!listed && index === 0) ? 0 : -1,
          class: index ? "run" : "run newest",
        },
        upright(one.share),
        h("span.usd", null, dollars(one.usd)),
        one.image || one.status
          ? box({ ...one, money: null })
          : h("span.box.bare", null, sign("image", "None")),
        h("span.date", null, minute(one.date)),
        h(
          "span.sub",
          null,
          one.images || !one.status ? images(one.images) : statusWord(one.status).toLowerCase(),
        ),
        lying(one.share),
      ),
    );
  return [
    figures(page.figures),
    h("h2.minor", null, "Spend and images by run"),
    runs.length
      ? h("ul.runs", { "aria-label": "Runs, newest first" }, runs.map(item))
      : h("p.muted", null, "No runs with images yet."),
    open &&
      h(
        "h2.minor.chosen",
        null,
        minute(open.date),
        h(
          "span.muted",
          null,
          " · ",
          linkTo(open.place, {}, [open.run_id], "a.plain"),
          ` · ${dollars(open.usd)}`,
        ),
      ),
    chosen?.picture ? one(chosen.picture) : inChosen.map(task),
  ];
}

const asset = () => [
  page.newest ? one(page.newest) : h("p.muted", null, "No image of this asset yet."),
  (page.events ?? []).length > 0 && h("h2", null, "Events"),
  h(
    "ul.events",
    null,
    (page.events ?? []).map((one) =>
      h(
        "li",
        null,
        h(
          "p",
          null,
          h("b", null, minute(one.time)),
          " ",
          linkTo(one.place, {}, [`${one.dag_id} · ${one.run_id}`]),
        ),
        h(
          "ul.strip",
          null,
          (one.tiles ?? []).map((tile) => tileItem(tile, false)),
        ),
      ),
    ),
  ),
];

function overview() {
  const days = page.days ?? [];
  const most = days.reduce((best, one) => (Number(one.usd) > Number(best?.usd ?? 0) ? one : best), null);
  const told = most ? `most: ${dollars(most.usd)} on ${day(most.date)}` : "nothing spent";
  const table = (name, head, rows) =>
    h(
      "section.card",
      null,
      h("h2", null, name),
      h(
        "table",
        null,
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, head),
            h("th.right", { scope: "col" }, "Images"),
            h("td.share"),
            h("th.right", { scope: "col" }, "Spent"),
          ),
        ),
        h(
          "tbody",
          null,
          (rows ?? []).map((row) =>
            h(
              "tr",
              null,
              h("th", { scope: "row" }, row.place ? linkTo(row.place, {}, [row.name]) : row.name),
              h("td.right", null, count(row.images)),
              h("td.share", null, lying(row.share)),
              h("td.right", null, dollars(row.usd)),
            ),
          ),
        ),
      ),
    );
  const bar = (one, index) => {
    const width = 100 / days.length;
    const height = Math.max(size(one.share), 0.8);
    return h(
      "rect",
      {
        x: `${index * width + width * 0.12}%`,
        width: `${width * 0.76}%`,
        y: `${100 - height}%`,
        height: `${height}%`,
        class: index === days.length - 1 ? "newest" : null,
      },
      h("title", null, `${day(one.date)}: ${dollars(one.usd)}`),
    );
  };
  return [
    figures(page.figures),
    h(
      "section",
      null,
      h("div.top", null, h("h2", null, "Latest"), h("p.fine.muted", null, "Of the Dags you may see")),
      page.latest?.length ? tiles(page.latest) : h("p.muted", null, "No images yet."),
    ),
    h(
      "section.card",
      null,
      h("h2", null, "Spend by day"),
      h("svg.days", { role: "img", "aria-label": `Spend by day; ${told}` }, days.map(bar)),
      h(
        "p.scale",
        null,
        h("span", null, days.length ? day(days[0].date) : ""),
        h("span", null, told),
        h("span", null, days.length ? day(days.at(-1).date) : ""),
      ),
    ),
    h(
      "div.pair",
      null,
      table("By Dag", "Dag", page.by_dag),
      table("By connection", "Connection", page.by_connection),
    ),
  ];
}

const SIGNS = [
  [/may not|root|log in/i, "lock"],
  [/read|server/i, "store"],
  [/gone/i, "gone"],
  [/yet/i, "in_flight"],
];
function empty() {
  const sign =
    SIGNS.find(([words]) => words.test(page.what))?.[1] ?? (page.kind === "problem" ? "alert" : "image");
  return [
    placeSwitch(page.switch),
    h(
      "section.card.alone",
      null,
      icon(sign),
      h("h2", null, words(page.what)),
      paragraphs(page.why),
      paragraphs(page.do),
    ),
  ];
}

const KINDS = { single, sheet, batch: sheet, run, dag, asset, overview, empty, problem: empty };
// What these say is said by the picture's own part of the page.
const SAID_BELOW =
  /^(Not kept\.|This picture may or may not be paid for|The picture is paid for and not stored)/;

function render() {
  const draw = KINDS[page.kind] ?? (() => h("p", null, "This page is older than the server. Load it again."));
  const notices = (page.notices ?? []).filter((one) => page.kind !== "single" || !SAID_BELOW.test(one.what));
  const title =
    page.kind === "overview"
      ? [
          h("h1", null, "Images"),
          select(
            "Range",
            "days",
            (page.ranges ?? []).map((days) => [String(days), `Last ${days} days`]),
            String(query.days ?? page.query?.days ?? 30),
            true,
          ),
        ]
      : h("h1.hidden", null, page.title || "Images");
  const whole = h(
    "main",
    { id: "images", class: `page-${page.kind}` },
    page.kind === "overview" ? h("div.top", null, title) : title,
    trouble && !["sheet", "batch"].includes(page.kind) && live(),
    notices.map((one) => {
      const [, first, rest] = /^(.{1,120}?[.:!])\s+(\S[^]*)$/.exec(one.what) ?? [null, one.what, ""];
      return notice(
        "unknown.alert",
        first.replace(/\.$/, ""),
        h("p", null, words([rest, one.money, one.do].filter(has).join(" "))),
      );
    }),
    draw(),
  );
  morph(main, whole);
  document.title = `${page.title || "Images"} · Images`;
  for (const field of main.querySelectorAll("select")) {
    if (field !== document.activeElement) field.value = field.dataset.now;
  }
  const head = main.querySelector(".page-batch .head, .head");
  if (head) ours.setProperty("--head", `${Math.ceil(head.offsetHeight)}px`);
}

// ---- The panel of a sheet -----------------------------------------------------------------------

const panel = h("dialog.panel", { "aria-labelledby": "panel-title" });
const fullSize = h("dialog.full", { "aria-label": "Full size" });
const pictures = new Map();
const loaded = new Set();
const reasons = new Map();
let opened = null;
// A tile may leave the page while its panel is open: what was shown of it last, and where it was.
let last = { tile: null, index: 0 };
let at = null;

const sheetAt = () => (page.tiles?.some((tile) => tile.key === at) ? at : page.tiles?.[0]?.key);
const indexOf = (key) => (page.tiles ?? []).findIndex((tile) => tile.key === key);

function drawPanel() {
  const found = indexOf(opened);
  if (found >= 0) last = { tile: page.tiles[found], index: found };
  const { tile, index } = last;
  const picture = { columns: {}, ...tile, ...pictures.get(opened) };
  const number = page.first + index;
  const arrow = (way, name, can) =>
    h(
      `button.arrow.${way}`,
      {
        type: "button",
        "data-do": "turn",
        "data-value": way === "after" ? 1 : -1,
        "aria-label": name,
        disabled: !can,
      },
      icon(way),
    );
  const key = (...names) => names.map((name) => h("kbd", null, name));
  const tree = h(
    "dialog.panel",
    { "aria-labelledby": "panel-title", open: panel.open },
    h(
      "header",
      null,
      h("h2", { id: "panel-title" }, tile.caption),
      h("span.fine.muted.number", null, `${count(number)} of ${count(page.total)}`),
      h("button.quiet", { type: "button", "data-do": "close", "aria-label": "Close" }, icon("close")),
    ),
    h(
      "div.view",
      null,
      arrow("before", "Previous image", number > 1),
      stage(picture, tile.image?.thumb2 ?? tile.image?.thumb),
      arrow("after", "Next image", number < page.total),
    ),
    h(
      "div.side",
      null,
      h(
        "div.scroll",
        { tabindex: 0, role: "group", "aria-label": "Facts" },
        pictures.get(opened)?.failed && h("p.muted", null, pictures.get(opened).failed),
        facts(picture, pictures.has(opened)),
      ),
      actions(picture),
    ),
    h("p.hidden", { role: "status" }, said),
    h(
      "footer",
      null,
      h("span", null, key("←", "→"), "previous, next"),
      h("span", null, key("F"), "full size"),
      h("span", null, key("D"), "download"),
      h("span", null, key("C"), "copy path"),
      h("span", null, key("Esc"), "close"),
    ),
  );
  morph(panel, tree);
  ahead(chosenImage(picture));
  for (const near of [page.tiles[index + 1], page.tiles[index - 1]])
    if (near?.image?.thumb2) new Image().src = safeAddress(near.image.thumb2) ?? "";
}

/** Load the picture for the stage behind its thumbnail. */
function ahead(image) {
  const source = safeAddress(image?.stage);
  if (!source || image.problem || loaded.has(source) || broken.has(source)) return;
  const loading = new Image();
  loading.onload = () => (loaded.add(source), panel.open && drawPanel());
  loading.onerror = () => failedToLoad(source);
  loading.src = source;
}

async function openTile(key) {
  opened = at = key;
  if (!panel.open) said = "";
  drawPanel();
  if (panel.open) say(`${last.tile.caption}, ${statusWord(last.tile.status)}`, true);
  else panel.showModal();
  remember();
  if (pictures.has(key)) return;
  let picture;
  try {
    const answer = await fetch(`${PREFIX}/data/${PLACE}/tile/${encodeURIComponent(key)}${search()}`);
    picture = answer.ok
      ? await answer.json()
      : { failed: "The details did not load. Open it again to try once more." };
  } catch {
    picture = { failed: "The details did not load: the server does not answer." };
  }
  pictures.set(key, picture);
  if (panel.open && opened === key) drawPanel();
  if (picture.failed) pictures.delete(key);
}

/** Show the next or the previous picture, also over the end of a page. */
async function turn(step) {
  const found = indexOf(opened);
  let index = found >= 0 ? found + step : last.index + Math.min(step, 0);
  if (index < 0 || index >= page.tiles.length) {
    const wanted = page.page + step;
    if (wanted < 1 || wanted > page.pages) return;
    query.page = wanted;
    await load();
    if (page.page !== wanted || !page.tiles.length) return;
    index = step > 0 ? 0 : page.tiles.length - 1;
  }
  await openTile(page.tiles[index].key);
}

panel.addEventListener("close", () => {
  at = opened;
  opened = null;
  remember();
  render();
  focusTile(at);
});
function focusTile(key) {
  const button = [...main.querySelectorAll(".sheet .tile")].find((one) => one.dataset.value === key);
  if (button) button.focus({ preventScroll: false });
}

function openFull(address, alt) {
  morph(
    fullSize,
    h(
      "dialog.full",
      { "aria-label": "Full size", open: fullSize.open },
      h(
        "button.quiet",
        { type: "button", "data-do": "unfull", "aria-label": "Close full size" },
        icon("close"),
      ),
      h("div.pan", { tabindex: 0, role: "group", "aria-label": "Picture" }, h("img", { src: address, alt })),
    ),
  );
  if (!fullSize.open) fullSize.showModal();
}
fullSize.addEventListener("close", () => fullSize.replaceChildren());

// ---- Asking the server --------------------------------------------------------------------------

const main = document.getElementById("images");
const status = document.getElementById("said");
let page = {};
let query = {};
let trouble = null;
let etag = null;
let asking = null;
let polling = 0;

const DEFAULTS = { page: 1, sort: "row", days: 30 };
function search() {
  const given = Object.entries(query).filter(([key, value]) => has(value) && value !== DEFAULTS[key]);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}
const remember = () =>
  history.replaceState(
    history.state,
    "",
    location.pathname + search() + (opened === null ? "" : `#${encodeURIComponent(opened)}`),
  );

/** Take a document: as it was embedded, or as it was answered. */
function take(told) {
  const before = page;
  page = told;
  const made = Date.parse(page.updated);
  heardAt = Date.now();
  if (!Number.isNaN(made)) clockSkew = heardAt - made;
  for (const tile of page.tiles ?? []) {
    if (before.tiles?.find((one) => one.key === tile.key)?.status !== tile.status) pictures.delete(tile.key);
  }
  if (page.kind === "single" && before.kind && before.picture?.status !== page.picture.status)
    say(`${statusWord(page.picture.status)}.`);
  else if (page.counts && before.counts && before.counts.done !== page.counts.done)
    say(`${count(page.counts.done)} of ${images(page.counts.all)} done.`);
}

/** Ask for the document of what is shown now; only the latest question's answer counts. */
async function load() {
  asking?.abort();
  const mine = (asking = new AbortController());
  clearTimeout(polling);
  const address = `${PREFIX}/data/${PLACE}${search()}`;
  const known = etag?.address === address ? { "If-None-Match": etag.value } : {};
  try {
    const answer = await fetch(address, { headers: known, cache: "no-store", signal: mine.signal });
    if (answer.status === 304) {
      heardAt = Date.now();
      trouble = null;
    } else if (answer.ok) {
      const told = await answer.json();
      if (mine.signal.aborted) return;
      etag = { address, value: answer.headers.get("ETag") ?? "" };
      trouble = null;
      take(told);
    } else {
      trouble =
        answer.status === 401
          ? "Log in again."
          : answer.status === 403
            ? "You may not see this Dag any more."
            : "The server has an error. Trying again.";
      if ([401, 403, 404].includes(answer.status)) page.live = false;
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    trouble = "The server does not answer. Trying again.";
  }
  if (mine.signal.aborted) return;
  render();
  if (panel.open) drawPanel();
  again();
}

function again() {
  clearTimeout(polling);
  if (page.live && !document.hidden) polling = setTimeout(load, POLL_MS);
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(polling);
  else if (page.live) load();
});

let typing = 0;
function change(changes, wait = 0) {
  query = { ...query, page: 1, ...changes };
  clearTimeout(typing);
  typing = setTimeout(async () => {
    remember();
    await load();
    if (page.counts) say(page.total ? `${images(page.total)}.` : "Nothing matches.", true);
  }, wait);
}

let saidAt = 0;
let saying = 0;
// The page's line can't be heard while the panel is open, so that has one, too.
let said = "";
/** Tell a screen reader: what a person asked for at once, what happens by itself each ten seconds. */
function say(text, asked = false) {
  clearTimeout(saying);
  saying = setTimeout(
    () => {
      saidAt = Date.now();
      said = text;
      (panel.open ? panel.querySelector("[role=status]") : status).textContent = text;
    },
    asked ? 0 : Math.max(0, saidAt + SAY_AGAIN_MS - Date.now()),
  );
}

setInterval(() => {
  for (const one of document.querySelectorAll("[data-tick]")) {
    const text = ticking[one.dataset.tick](one.dataset.of);
    if (one.textContent !== text) one.textContent = text;
  }
}, 1000);

/** A picture that can't be had is said in words, with the server's reason where it gives one. */
async function failedToLoad(source) {
  if (!source || broken.has(source)) return;
  broken.add(source);
  if (new URL(source).origin === location.origin && /[?&]size=1024/.test(source)) {
    try {
      const answer = await fetch(source);
      if (!answer.ok && /^text\/plain/.test(answer.headers.get("Content-Type") ?? ""))
        reasons.set(source, (await answer.text()).slice(0, 300));
    } catch {
      // The words below say enough.
    }
  }
  render();
  if (panel.open) drawPanel();
}
document.addEventListener(
  "error",
  (event) =>
    event.target.tagName === "IMG" && failedToLoad(safeAddress(event.target.currentSrc || event.target.src)),
  true,
);

// ---- Airflow around us: its pages and its theme -------------------------------------------------

/** Return Airflow's window if this page is in a tab of it; it is of the same origin. */
const airflow = (() => {
  try {
    return parent !== window && parent.location.origin === location.origin ? parent : null;
  } catch {
    return null;
  }
})();
const tabbed = airflow !== null;

const decode = (part) => {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
};
// Airflow underlines a tab only where `:` and `+` of a run's id stand as they are.
const encode = (part) => encodeURIComponent(decode(part)).replace(/%(3A|2B|40)/g, decodeURIComponent);

/** Return a place's path, safe to stand behind our prefix; null for anything else. */
function safePlace(place) {
  const parts = String(place ?? "").split("/");
  const right =
    /^(task|mapped|task-runs|run|dag|asset|all)$/.test(parts[0]) &&
    parts.every((part) => part && !/^\.+$/.test(decode(part)));
  return right ? parts.map(encode).join("/") : null;
}

/** Return the address of the page of Airflow's whose Images tab shows a place; null where there is none. */
function airflowPage(place) {
  const [kind, first, second, third, index] = place.split("/");
  const mapped = /^\d+$/.test(index) ? `/mapped/${index}` : "";
  const pages = {
    task: [`dags/${first}/runs/${second}/tasks/${third}${mapped}`, "task-instance"],
    run: [`dags/${first}/runs/${second}`, "dag-run"],
    dag: [`dags/${first}`, "dag"],
    "task-runs": [`dags/${first}/tasks/${second}`, "task"],
  };
  return pages[kind] && !/^loop-/.test(index)
    ? `${AIRFLOW}/${pages[kind][0]}/plugin/gpt-images-${pages[kind][1]}`
    : null;
}

function linkTo(place, attributes, inside, name = "a") {
  const safe = safePlace(place);
  return safe
    ? h(name, { href: `${PREFIX}/${safe}`, "data-place": safe, ...attributes }, inside)
    : h(name.replace(/^a/, "span"), null, inside);
}

const ours = (() => {
  const sheet = new CSSStyleSheet();
  sheet.insertRule(":root {}");
  document.adoptedStyleSheets = [sheet];
  return sheet.cssRules[0].style;
})();
// Ours and Chakra's names of the same colours: a deployment's own theme is followed.
const COLOURS = {
  page: "bg",
  text: "fg",
  muted: "fg-muted",
  line: "border",
  edge: "border-emphasized",
  stage: "bg-muted",
  track: "bg-emphasized",
  link: "fg-info",
  focus: "brand-focus-ring",
  brand: "brand-solid",
  "brand-hover": "brand-700",
  spend: "brand-500",
};
function theme() {
  const root = airflow?.document.documentElement;
  let dark = root?.classList.contains("dark");
  if (!root || !(dark || root.classList.contains("light"))) {
    let chosen = "system";
    try {
      chosen = localStorage.getItem("theme") ?? "system";
    } catch {
      // No storage: as the system has it.
    }
    dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  }
  document.documentElement.className = dark ? "dark" : "light";
  const given = root && airflow.getComputedStyle(root);
  for (const [name, chakra] of Object.entries(COLOURS)) {
    const value = given?.getPropertyValue(`--chakra-colors-${chakra}`).trim();
    if (value) ours.setProperty(`--${name}`, value);
    else ours.removeProperty(`--${name}`);
  }
}
theme();
if (airflow)
  new MutationObserver(theme).observe(airflow.document.documentElement, {
    attributes: true,
    attributeFilter: ["class", "style"],
  });
addEventListener("storage", theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);

// ---- What a person does -------------------------------------------------------------------------

async function copy(button) {
  const from = button.parentElement.querySelector("[data-text]");
  try {
    await navigator.clipboard.writeText(from.textContent);
    say("Copied.", true);
    button.replaceChildren(icon("done"));
    setTimeout(() => button.replaceChildren(icon("copy")), 2000);
  } catch {
    // Without https the clipboard is out of reach: the person copies what is selected.
    getSelection().selectAllChildren(from);
    say("Selected. Press Control and C to copy it.", true);
  }
}

const DO = {
  copy: (button) => copy(button),
  status: (button) => change({ status: button.dataset.value || null }),
  clear: () => {
    const field = main.querySelector("input[type=search]");
    if (field) field.value = "";
    change({ status: null, text: null });
    field?.focus();
  },
  page: async (button) => {
    query.page = Number(button.dataset.value);
    remember();
    await load();
    at = null;
    render();
    scrollTo(0, 0);
    say(`Page ${page.page} of ${page.pages}.`, true);
  },
  open: (button) => openTile(button.dataset.value),
  run: (button) => change({ run: button.dataset.value }),
  image: (button) => {
    shownImage.set(button.dataset.of, Number(button.dataset.value));
    render();
    if (panel.open) drawPanel();
  },
  full: (button) => openFull(button.dataset.value, button.dataset.alt),
  turn: (button) => turn(Number(button.dataset.value)),
  close: () => panel.close(),
  unfull: () => fullSize.close(),
};

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-place]");
  const there = link && airflow && airflowPage(link.dataset.place);
  if (there && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    // The frame's sandbox forbids _top: Airflow's router follows its own history.
    event.preventDefault();
    airflow.history.pushState({}, "", there);
    airflow.dispatchEvent(new airflow.PopStateEvent("popstate"));
    return;
  }
  const button = event.target.closest("button[data-do]");
  if (button) DO[button.dataset.do]?.(button);
});
document.addEventListener("change", (event) => {
  const name = event.target.matches("select[data-do]") && event.target.dataset.do;
  if (name) change({ [name]: event.target.value });
});
document.addEventListener(
  "input",
  (event) =>
    event.target.matches("input[type=search]") &&
    change({ text: event.target.value.trim() || null }, TYPING_MS),
);
document.addEventListener("focusin", (event) => {
  const tile = event.target.closest?.(".sheet .tile, .run");
  if (!tile) return;
  if (tile.matches(".tile")) at = tile.dataset.value;
  for (const one of tile.closest("ul").querySelectorAll(".tile, .run")) one.tabIndex = one === tile ? 0 : -1;
});

const inField = (target) => target.matches?.("input, select, textarea");
const plainKey = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;

/** Move along a list of which one element is a tab stop. */
function move(event, list, stop) {
  const all = [...list.children];
  const here = all.indexOf(stop.closest("li"));
  const columns = Math.max(
    1,
    all.findIndex((one) => one.offsetTop !== all[0].offsetTop) === -1
      ? all.length
      : all.findIndex((one) => one.offsetTop !== all[0].offsetTop),
  );
  const rows = Math.max(1, Math.floor((innerHeight - 100) / (all[0].offsetHeight + 12)));
  const forward = getComputedStyle(list).flexDirection === "row-reverse" ? -1 : 1;
  const down = columns === all.length ? 0 : columns;
  const steps = {
    ArrowRight: forward,
    ArrowLeft: -forward,
    ArrowDown: down,
    ArrowUp: -down,
    PageDown: down * rows,
    PageUp: -down * rows,
    Home: -here,
    End: all.length - 1 - here,
  };
  if (!(event.key in steps)) return;
  event.preventDefault();
  let there = here + steps[event.key];
  if (/^Page/.test(event.key)) there = Math.min(all.length - 1, Math.max(0, there));
  all[there]?.querySelector("button")?.focus();
}

document.addEventListener("keydown", (event) => {
  if (!plainKey(event) || event.defaultPrevented) return;
  const target = event.target;
  if (fullSize.open) return;
  if (panel.open) {
    if (inField(target)) return;
    const keys = {
      ArrowLeft: () => turn(-1),
      ArrowRight: () => turn(1),
      f: () => panel.querySelector("[data-do=full]")?.click(),
      d: () => panel.querySelector("a[download]")?.click(),
      c: () => panel.querySelector("[aria-label='Copy path']")?.click(),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!keys[key]) return;
    event.preventDefault();
    keys[key]();
    return;
  }
  const stop = target.closest?.(".sheet .tile, .run");
  if (stop) move(event, stop.closest("ul"), stop);
  if (event.key === "Escape" && target.matches?.("input[type=search]") && target.value) {
    target.value = "";
    change({ text: null });
  }
  if (inField(target)) return;
  if (event.key === "/") {
    const field = main.querySelector("input[type=search]");
    if (field) event.preventDefault();
    field?.focus();
  }
  const way = { "[": "before", "]": "after" }[event.key];
  const index = ["before", "after"].indexOf(way);
  const buttons = main.querySelectorAll(".head .pager button");
  if (index >= 0 && buttons[index] && !buttons[index].disabled) buttons[index].click();
});

// ---- Begin --------------------------------------------------------------------------------------

document.body.append(panel, fullSize);
take(JSON.parse(document.getElementById("document").textContent));
// What the server made of the address counts, not the address.
for (const key of ["page", "status", "text", "sort", "caption", "days", "run"]) {
  if (has(page.query?.[key])) query[key] = page.query[key];
}
render();
if (location.hash.length > 1 && indexOf(decode(location.hash.slice(1))) >= 0)
  openTile(decode(location.hash.slice(1)));
again();
