// Draw texts that have `code`, **bold** or several lines, and what can be copied.

import { h } from "./elements.js";
import { icon } from "./icons.js";

/** Make a text's elements: `code` in backticks, **bold**. */
export const marked = (text) =>
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
export const paragraphs = (text) =>
  String(text ?? "")
    .split("\n")
    .filter(Boolean)
    .map((line) => {
      const code = CODE.exec(line);
      return code ? codeBlock(code[1] ?? code[2]) : h("p", null, marked(line));
    });

export const codeBlock = (text) =>
  h("div.code", null, h("code", { "data-text": true, tabindex: 0 }, text), copyButton("Copy"));
export const copyButton = (name) =>
  h("button.quiet", { type: "button", "data-do": "copy", "aria-label": name, title: name }, icon("copy"));
