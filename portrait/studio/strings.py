"""Every sentence of the page, apart from errors: those are the library's, as the command line prints them."""

from __future__ import annotations

from portrait.hub.judges import JUDGES as _JUDGES

TITLE = "portrait studio"
TAGLINE = "The same person in another style, checked by two judges."
TAB_STUDIO = "Studio"
TAB_REPORTS = "Reports"

DROP = "Drop a photo here"
CHOOSE = "Choose a photo"
DROP_HOW = "or click to choose a file, or paste one with Ctrl+V"
CAMERA = "Use the camera"
CAMERA_SHOOT = "Take photo"
CAMERA_STOP = "Close camera"
OTHER_PHOTO = "Another photo"
PHOTO_STAYS = "It stays on this computer and is forgotten when you close the page."
PHOTO_STAYS_HOST = "It stays in the memory of the computer that runs this studio until you close the page."
PHOTO_ALT = "Your photo; {faces}"
FACES = {0: "no face found", 1: "one face found"}
FACES_MANY = "{n} faces found"
CHOOSE_FACE = "Whose portrait is it? Click a face."
CHOSEN_FACE = "Face {n} is selected. Click another one to change it."
FACE_LABEL = "Face {n} of {total}"
DRAW = "Draw a region"
DRAW_HELP = "Drag a rectangle over anything that must not change, such as a logo. Click without dragging to remove it."
DRAW_DONE = "This region will be kept in the next picture."

STYLE = "Style"
NO_SAMPLE = "no sample yet"
SAMPLE_ALT = "A sample of the style {title}, made by the model"
BALANCE = "Balance"
BALANCE_INFO = "0 looks like the person, 1 looks like art"
KEEP = "Keep unchanged"
KEEP_INFO = "The face is always kept. A picture that changes any of these is rejected."
KEEPS = {"pose": "pose", "composition": "composition", "colors": "colors", "background": "background"}
REGION = "Region to keep"
REGION_INFO = "x,y,width,height in pixels of the photo, or draw it on the photo"
VARIANTS = "Variants"
ADVANCED = "Advanced"
RECIPE = "recipe"
FROM_BALANCE = "from the balance"

MAKE = "Make the portrait"
CANCEL = "Cancel"
EMPTY = "The portrait appears here."
EMPTY_HOW = "It starts as soon as you choose a photo. Then pick a style and move the slider until you like the result."
LOADING = "Loading the models. This happens only once…"
LOOKING = "Looking for faces…"
IN_LINE = "You are number {place} in line."
NEXT = "Starting…"
WORKING = "Attempt {attempt}, step {step} of {total}"
WORKING_VARIANT = "Picture {variant} of {variants}: attempt {attempt}, step {step} of {total}"
FORMING_ALT = "The picture, forming"
CANCELLED = "Canceled. Nothing was changed."
FORGOTTEN = "Your photo, pictures and embeddings have been deleted."
NEED_PHOTO = "Choose a photo first."
NEED_FACE = "There are several faces. Click the right one."

BEFORE = "Photo"
AFTER = "Portrait"
COMPARE = "Before and after: how much of the first picture is shown"
COMPARE_WITH = "Compare with"
THE_PHOTO = "the photo"
PICTURE_N = "picture {n}"
SIDE_BY_SIDE = "Side by side"
RESULT_ALT = "Portrait {n}: {style}, {verdict}"
VERDICTS = {True: "accepted", False: "rejected"}
ACCEPTED = "Accepted: both judges recognize the person."
ACCEPTED_ONE = "Accepted: the judge recognizes the person."
REJECTED = "Rejected: {why}."
REJECTED_HOW = "This is the closest attempt. Try “More like me”."
JUDGES = {judge.name: judge.title for judge in _JUDGES.values()}
LIKENESS = (
    (0.1, "clearly the same person"),
    (0.0, "the same person"),
    (-0.1, "not quite the person"),
    (-9.0, "not this person"),
)
"""Minimum distance from the threshold -> the likeness in words."""
METER = "{value}, needs {limit}"
METER_MOST = "{value}, at most {limit}"
STRANGERS = "At these thresholds, a judge would accept 1 in {n:.0f} strangers."
PROVISIONAL = "Note: {note}."
STYLE_ON_FACE = "Face is redrawn"
STYLE_WORDS = {True: "yes", False: "too close to the photo"}
DISTANCE_WORDS = {True: "matches this style", False: "does not match this style"}
CHANGED = {"skin": "Lightness of the skin"}
CHANGED_WORDS = {True: "as this style draws it", False: "not as this style draws it"}
BURNED = "Blown-out colors"
BURNED_WORDS = {True: "within the usual range", False: "too many"}
KEPT = "kept"
BROKEN = "changed"
KEPT_LABEL = "Keep {name}"
ATTEMPTS = "Attempts"

MORE_LIKE_ME = "More like me"
MORE_STYLE = "More style"
ANOTHER = "Another one"
SAME_LOOK = "Same style for another photo"
HISTORY_LABEL = "{picture}, balance {balance:g}"
HISTORY = "Pictures of this session"
UNDO = "Undo"
RESET = "Reset"
RESET_HELP = "deletes photo, pictures and embeddings"
DOWNLOADS = "Download"
DOWNLOAD_PICTURE = "Picture (PNG)"
DOWNLOAD_ALL = "All avatar sizes and the record (ZIP)"
COMMAND = "Show command"
COMMAND_INFO = "This command makes the same picture:"
COPY = "Copy"
COPIED = "Copied"
COMMAND_PHOTO = "The photo is not a file yet; save it first."

RUN = "Run"
RUN_INFO = "Campaigns below {root}"
BASELINE = "Compared with"
BASELINE_INFO = "Another run, to see what has changed"
NO_BASELINE = "nothing"
CHOOSE_RUN = "Choose a run to see its report."
NO_RUNS = (
    "No run below {root}. Start the studio with --runs FOLDER, or make one: portrait campaign run PLAN.toml -o RUN."
)
REPORT_COMES = "Creating the report…"
REPORT_TITLE = "Report of {run}"
FOOTER = "Works offline. No analytics, no trackers."
UNEXPECTED = "Unexpected error: {error}. See the terminal for details."
QUEUE_FULL = "{n} people are already waiting; try again in a minute"
TOO_LARGE_UPLOAD = "The file is {size:.0f} MB, which is over the limit of {limit} MB; use a smaller copy"
UPLOAD_FAILED = "The upload failed; try again"
NO_CAMERA = "The browser does not allow access to a camera"
NOT_A_PICTURE = "That is not a file"

# Server
BAD_NAME = "{name!r} cannot be the name of a file; rename it"
BACKDROPS_FULL = "There are too many background pictures in this session; start over to add more"
DISK_FULL = "The studio cannot write to its disk; tell whoever runs it"
NEED_BACKDROP = "Add the picture that is to stand behind you first"
