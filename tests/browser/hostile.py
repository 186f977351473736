"""Words as somebody writes them who wishes a page ill, or who has a strange name and means no harm."""

MARK = "pwned"  # what scripts in these words would set: window.pwned

SCRIPT = f"<script>window.{MARK}=1</script>"
IMAGE = f'"><img src=x onerror=window.{MARK}=1>'
ATTRIBUTE = f"' autofocus onfocus=window.{MARK}=1 x='"
TEMPLATE = f"{{{{7*7}}}}${{window.{MARK}=1}}<%= 7*7 %>"
ADDRESS = f"javascript:window.{MARK}=1//"
OVERRIDE = "gpj.\u202eexe.photo\u202c"  # reads otherwise than it is written
UNSEEN = "a\u200bb\u2066c\x07\x1b[31m\x7f\u2028d\ue000\ufffe"  # what terminals, editors and fonts do not show
FULL = f"</textarea></title></style></svg>{SCRIPT}<!--"
LONG = ("L" + "o" * 30 + "ng ") * 32

#: Names of users. The first ones break addresses, unless they are escaped; browsers take dots for steps in folders.
NAMES = (
    ".",
    "..",
    "a/b",
    "/",
    "../../people",
    "%2e%2e",
    "%",
    "tail/",
    "?k=1#photos",
    "\\..\\x",
    " ",
    "line\nbreak",
    "🦆👩‍👩‍👧‍👦",
    SCRIPT,
    IMAGE,
    ATTRIBUTE,
    TEMPLATE,
    ADDRESS,
    OVERRIDE,
    UNSEEN,
    FULL,
    LONG,
)

#: Names of files in a folder, which can hold no slash, and not much.
FILES = (f"{IMAGE}.jpg", f"{ATTRIBUTE}.jpg", f"{OVERRIDE}.jpg", "100 %2e &amp; <b>.jpg", f"{TEMPLATE}.jpg")
