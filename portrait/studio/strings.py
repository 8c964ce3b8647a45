"""Every sentence of the page. Errors are not here: they are those of the library, as the command line prints them."""

from __future__ import annotations

TITLE = "portrait studio"
TAGLINE = "The same person in another style, checked by two judges."
TAB_STUDIO, TAB_REPORTS = "Studio", "Reports"

DROP, CHOOSE = "Drop a photo here", "Choose a photo"
DROP_HOW = "or click to choose a file, or paste one with Ctrl+V"
CAMERA, CAMERA_SHOOT, CAMERA_STOP = "Use the camera", "Take the photo", "Close the camera"
OTHER_PHOTO = "Another photo"
PHOTO_STAYS = "It stays on this computer and is forgotten when you close the page."
PHOTO_STAYS_HOST = "It is kept in the memory of the computer that runs this studio, until you close the page."
PHOTO_ALT = "Your photo; {faces}"
FACES = {0: "no face found", 1: "one face found"}
FACES_MANY = "{n} faces found"
CHOOSE_FACE = "Who is it? Click a face."
CHOSEN_FACE = "Face {n} is chosen. Click another one to change that."
FACE_LABEL = "Face {n} of {total}"
DRAW = "Draw a region"
DRAW_HELP = "Drag a rectangle over what must stay, a logo for example. A click without dragging takes it away."
DRAW_DONE = "This region stays in the next picture that you make."

STYLE = "Style"
NO_SAMPLE = "no sample yet"
SAMPLE_ALT = "A sample in the style {title}, made by the model"
BALANCE, BALANCE_INFO = "Balance", "0 looks like the person, 1 looks like art"
KEEP, KEEP_INFO = "What must stay", "The face always does. A broken promise is a rejection."
KEEPS = {"pose": "pose", "composition": "composition", "colors": "colours", "background": "background"}
REGION, REGION_INFO = "Region that stays", "x,y,width,height in pixels of the photo; or draw it on the photo"
VARIANTS = "Variants"
ADVANCED = "Advanced"
RECIPE = "recipe"
FROM_BALANCE = "from the balance"

MAKE, CANCEL = "Make the portrait", "Cancel"
EMPTY = "The portrait appears here."
EMPTY_HOW = "It begins as soon as there is a photo. Then pick a style, and move the slider until you like it."
LOADING = "Loading the models, once…"
LOOKING = "Looking for faces…"
IN_LINE = "Someone is before you: you are number {place} in line."
NEXT = "In a moment…"
WORKING = "Attempt {attempt}, step {step} of {total}"
WORKING_VARIANT = "Picture {variant} of {variants}: attempt {attempt}, step {step} of {total}"
FORMING_ALT = "The picture, forming"
CANCELLED = "Cancelled. Nothing was changed."
FORGOTTEN = "Photo, pictures and embeddings are forgotten."
NEED_PHOTO = "First choose a photo."
NEED_FACE = "Several faces: click the one that is meant."

BEFORE, AFTER = "Photo", "Portrait"
COMPARE = "Before and after: share of the first picture that is shown"
COMPARE_WITH = "Compare with"
THE_PHOTO = "the photo"
PICTURE_N = "picture {n}"
SIDE_BY_SIDE = "Side by side"
RESULT_ALT = "Portrait {n}: {style}, {verdict}"
VERDICTS = {True: "accepted", False: "rejected"}
ACCEPTED = "Accepted: both judges recognise the person."
ACCEPTED_ONE = "Accepted: the judge recognises the person."
REJECTED = "Rejected: {why}."
REJECTED_HOW = "This is the attempt that came closest. “More like me” may help."
JUDGES = {"arcface": "ArcFace", "dlib": "dlib"}
LIKENESS = (
    (0.1, "clearly the same person"),
    (0.0, "the same person"),
    (-0.1, "not quite the person"),
    (-9.0, "not this person"),
)
"""Least distance from the threshold -> the likeness in words."""
METER, METER_MOST = "{value}, needs {limit}", "{value}, at most {limit}"
STRANGERS = "At these thresholds a judge would let 1 of {n:.0f} strangers pass."
PROVISIONAL = "Note: {note}."
STYLE_ON_FACE = "Face drawn anew"
STYLE_WORDS = {True: "yes", False: "too much of the photo is left"}
DISTANCE_WORDS = {True: "drawn as this style is", False: "too far from how this style is drawn"}
BURNED = "Burned-out colours"
BURNED_WORDS = {True: "no more than usual", False: "too many"}
KEPT, BROKEN = "kept", "broken"
KEPT_LABEL = "{name} must stay"
ATTEMPTS = "What was tried"

MORE_LIKE_ME, MORE_STYLE, ANOTHER = "More like me", "More style", "Another one"
SAME_LOOK = "Same look for another photo"
HISTORY_LABEL = "{picture}, balance {balance:g}"
HISTORY, UNDO, RESET = "Pictures of this session", "Undo", "Reset"
RESET_HELP = "forgets photo, pictures and embeddings"
DOWNLOADS = "Download"
DOWNLOAD_PICTURE, DOWNLOAD_ALL = "Picture (PNG)", "All avatar sizes and the record (ZIP)"
COMMAND, COMMAND_INFO, COPY, COPIED = "Show command", "This line makes the same picture:", "Copy", "Copied"
COMMAND_PHOTO = "The photo has no file of its own; save it first."

RUN, RUN_INFO = "Run", "Campaigns below {root}"
BASELINE, BASELINE_INFO, NO_BASELINE = "Compared with", "Another run, to see what drifted", "nothing"
CHOOSE_RUN = "Choose a run to see its report."
NO_RUNS = (
    "No run below {root}. Start the studio with --runs FOLDER, or make one: portrait campaign run PLAN.toml -o RUN."
)
REPORT_COMES = "The report is being made…"
REPORT_TITLE = "The report of {run}"
FOOTER = "Works without a network. No analytics, no trackers."
UNEXPECTED = "this should not happen: {error}; the terminal shows more"
LINE_FULL = "{n} people are waiting already; try again in a minute"
TOO_LARGE_UPLOAD = "The file has {size:.0f} MB, more than the limit of {limit} MB; use a smaller copy"
UPLOAD_FAILED = "The upload did not arrive; try again"
NO_CAMERA = "The browser gives no access to a camera"
NOT_A_PICTURE = "What was pasted or dropped is no file"
