"""``python -m airflow_gpt_image.emulator``: the emulator in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Sequence

from airflow_gpt_image.emulator.emulator import Emulator
from airflow_gpt_image.emulator.fault_kinds import described
from airflow_gpt_image.emulator.faults import Fault
from airflow_gpt_image.emulator.server import Server, listen
from airflow_gpt_image.emulator.settings import DEFAULT_KEY, IMAGE_LIFE, Settings

_EXAMPLES = """
examples:
  python -m airflow_gpt_image.emulator
      on http://127.0.0.1:8787 with the key sk-emulator and 1000 credits

  export AIRFLOW_CONN_GPT_IMAGE_DEFAULT=\\
'{"conn_type": "gpt_image", "password": "sk-emulator", "host": "http://127.0.0.1:8787"}'
      the Airflow connection to it

  python -m airflow_gpt_image.emulator --duration 20-90 --fail-rate 0.05 --rate-limit 5
      as slow and as unreliable as the real thing

  python -m airflow_gpt_image.emulator --fault "submit:503*2" --fault "submit:lost*1;match=bicycle"
      the first two submits fail; one whose prompt has "bicycle" is charged, and its answer lost

  python -m airflow_gpt_image.emulator --fault "submit:gateway=504*1" --fault "submit:repeated_id*1"
      one is charged, and a gateway answers 504; one is charged, and answered with an earlier one's id

  curl http://127.0.0.1:8787/_emulator/books
      what was charged and refunded
  curl -d '"get:late=3;share=0.1"' http://127.0.0.1:8787/_emulator/faults
      a further fault while it runs (-X DELETE forgets all)
  curl -d '{"credits": 5, "duration": "0-1", "prices": {"1k": "5.2"}}' http://127.0.0.1:8787/_emulator/settings
      other settings while it runs
  curl -X POST http://127.0.0.1:8787/_emulator/reset
      new books, and all as at the start

faults: WHERE:KIND[=VALUE][*TIMES][;OPTION=VALUE]...
  In order; the first that wants a request has it.

options:
  times=N              the first N it wants; the same as *N
  after=N              lets N pass first
  share=P              by chance, with probability P
  match=TEXT           only if the prompt contains the text
  lasts=SECONDS        from the first request it meets; it meets none after that
  delay=SECONDS        before it happens
  accepted=yes|no      of a submit: whether it is accepted and charged
  retry_after=SECONDS  of a status or a gateway; also date:SECONDS for an HTTP date so far ahead, or any text
  body=TEXT            of a status
  content_type=TEXT    of a status or an image
  status=N             of a redirect, instead of 307; of a gateway, instead of the one its answer speaks of
  form=FORM            of a gateway, 504 for an example:
                         error     {"error": {"code": "504", "message": "Gateway Timeout"}} (default)
                         type      {"error": {"type": "timeout"}}
                         envelope  {"code": 504, "msg": "Gateway Timeout"}
                         page      HTML

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted.

    :returns: the exit code; wrong arguments exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    # Its "Started server process" says nothing that the line below doesn't.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    prices = dict(price.partition("=")[::2] for price in options.prices)
    names = (
        "credits",
        "duration",
        "rate_limit",
        "fail_rate",
        "seed",
        "files_url",
        "image_life",
        "webhook_secret",
    )
    try:
        settings = Settings().changed(
            {
                "keys": options.keys or [DEFAULT_KEY],
                "prices": prices,
                **{name: getattr(options, name) for name in names},
            }
        )
        emulator = Emulator(settings, [Fault.parse(spec) for spec in options.faults], time.time)
        listening = listen(emulator, options.host, options.port)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    server = Server(emulator, lambda: print(f"Listening on {emulator.base_url}", flush=True))
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
        server.run(sockets=[listening])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_gpt_image.emulator",
        description="The gpt-image-2 API on this machine: strict, with books, and with faults on request.\n"
        "Nothing leaves the machine, nothing costs anything, and the books are gone when it ends.",
        epilog=_EXAMPLES + described(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="127.0.0.1, ::1 or localhost; others are refused (default %(default)s)",
    )
    add("--port", type=int, default=8787, help="0 takes any that is free (default %(default)s)")
    add(
        "--key",
        dest="keys",
        action="append",
        metavar="KEY",
        help=f"accepted API key, starting with sk-; repeatable, all of one account (default {DEFAULT_KEY})",
    )
    add("--credits", default="1000", help="the balance (default %(default)s)")
    add(
        "--duration",
        default="1-3",
        metavar="SECONDS",
        help="from acceptance to the end, '2' or a range '1-3' (default %(default)s)",
    )
    add(
        "--rate-limit",
        metavar="N",
        help="submits per second; more get 429 with Retry-After (default: no limit)",
    )
    add(
        "--fail-rate",
        default="0",
        metavar="SHARE",
        help="share of generations that fail with upstream_error, 0 to 1 (default %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=0,
        help="what durations, failures and shares are drawn from (default %(default)s)",
    )
    add(
        "--files-url", metavar="URL", help="base of the image addresses (default: the emulator's own address)"
    )
    add(
        "--image-life",
        default=IMAGE_LIFE,
        metavar="SECONDS",
        help="how long an image is there after it was made; then 404 (default %(default)g, a day)",
    )
    add(
        "--webhook-secret",
        metavar="SECRET",
        help="what callbacks are signed with (default: they carry no signature)",
    )
    add(
        "--price",
        dest="prices",
        action="append",
        default=[],
        metavar="TIER=CREDITS",
        help="what a generation of a tier costs, such as 1k=5.2; repeatable (default: the API document's)",
    )
    add(
        "--fault",
        dest="faults",
        action="append",
        default=[],
        metavar="SPEC",
        help="what shall go wrong, see below; repeatable",
    )
    add(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error"],
        help="to stderr (default %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
