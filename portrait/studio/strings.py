"""All texts of the page, except errors, which are the library's, as printed by the command line."""

from __future__ import annotations

from portrait.hub.judges import JUDGES as _JUDGES

TITLE = "portrait studio"
TAGLINE = "Your photo in another style, and still recognizably you."
TAB_STUDIO = "Studio"
TAB_REPORTS = "Reports"
FOOTER = "Works offline. No analytics, no trackers."

# The photo
DROP = "Drop a photo here"
CHOOSE = "Choose a photo"
DROP_HOW = "or click to choose a file, or paste one with Ctrl+V"
CAMERA = "Use the camera"
CAMERA_SHOOT = "Take photo"
CAMERA_STOP = "Close camera"
OTHER_PHOTO = "Change photo"
PHOTO_STAYS = "Your photo never leaves this computer and is deleted {n} minutes after you close this page."
PHOTO_STAYS_HOST = "Your photo stays in the memory of the computer that runs this studio and is deleted {n} minutes after you close this page."
PHOTO_ALT = "Your photo; {faces}"
REFERENCE = "Add another photo of this person"
REFERENCE_HELP = "more photos of the same person make the likeness better"
REFERENCE_DROP = "Remove {name}"
FACES = {0: "no face found", 1: "one face found"}
FACES_MANY = "{n} faces found"
CHOOSE_FACE = "Which face? Click it."
CHOOSE_FACE_NEXT = "The portrait starts as soon as you choose."
CHOSEN_FACE = "Face {n} selected. Click another one to change it."
FACE_LABEL = "Face {n}, one of {total}"
DRAW = "Protect an area"
DRAW_HELP = "Drag a rectangle over anything that must not change, such as a logo. Click without dragging to remove it."
DRAW_CLOSE = "Done"

# The keyboard
KEYS_TITLE = "Keyboard shortcuts"
KEYS = {
    "Ctrl + Enter": "Create portrait",
    "Esc": "Cancel what is being made, or close what is open",
    "← →": "The picture before or after, also in full screen",
    "Delete": "Delete the picture that is shown",
    "Ctrl + Z": "Undo",
    "Ctrl + S": "Download the picture that is shown",
    "Ctrl + V": "Use the photo on the clipboard",
    "?": "This list",
}
"""Keys, and what they do; on a Mac, Cmd works like Ctrl."""

# The controls
STYLE = "Style"
NO_SAMPLE = "no sample yet"
PALETTE = "Palette"
PALETTE_AUTO = "Auto"
BALANCE = "Style strength"
STRENGTH_LABEL = "Strength {n:g}"
BALANCE_ENDS = ("More like the photo", "More artistic")
FRAME = "Crop"
FRAMES = {"head": "Head", "bust": "Head and shoulders", "full": "Whole photo"}
CROP_HOW = "Drag the crop over the photo, or move it with the arrow keys."
CROP_AXES = {"x": "Crop, sideways", "y": "Crop, up and down"}
CROP_VALUE = "{n}%"
CROP_CENTER = "Reset"
BACKGROUND = "Background"
BACKGROUNDS = {
    "": "As drawn",
    "keep": "From the photo",
    "blur": "Blurred",
    "paper": "Paper",
    "color": "Color",
    "gradient": "Gradient",
    "transparent": "Transparent",
    "picture": "Your picture",
}
BACKDROP = "Choose a background picture"
BACKDROP_OTHER = "Background: {name}. Choose another"
COLOR = "Color"
COLOR_BOTTOM = "Bottom color"
SIZE = "Size"
SIZE_PIXELS = "{n} px"
KEEP = "Keep from the photo"
KEEP_INFO = "Your face is always kept. If something you ticked changes, the picture is rejected."
KEEPS = {"pose": "Pose", "composition": "Composition", "colors": "Colors", "background": "Background"}
REGION = "Protected area"
REGION_INFO = "x,y,width,height in pixels of the photo; kept unchanged until you remove it"
VARIANTS = "Variations at once"
LATER = "These apply to the next portrait that you create."
ADVANCED = "Advanced"
AUTOMATIC = "Automatic"
AUTOMATIC_LABEL = "{label}: automatic"
GROUPS = {
    "Likeness": ("far", "max_attempts", "until"),
    "Drawing": (
        "strength",
        "guidance_scale",
        "ip_adapter_scale",
        "controlnet_conditioning_scale",
        "num_inference_steps",
        "seed",
    ),
    "Words": ("prompt", "negative_prompt"),
}
"""The groups of the advanced settings, and their content."""
LABELS = {
    "far": "Strictness of the check",
    "max_attempts": "Attempts at most",
    "until": "When to stop",
    "strength": "How much is redrawn",
    "guidance_scale": "Pull toward the style",
    "ip_adapter_scale": "Pull toward your face",
    "controlnet_conditioning_scale": "Hold on the photo's lines",
    "num_inference_steps": "Drawing steps",
    "seed": "Seed",
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
}
HELP = {
    "far": "share of strangers who may pass, 0.001 to 0.1; smaller is stricter",
    "max_attempts": "1 to 32; more attempts find a likeness more often",
    "until": "at the first accepted picture, or use all attempts for a more stylized one",
    "seed": "the same seed makes the same picture",
    "prompt": "in place of the style's own words",
    "negative_prompt": "what should not be in the picture",
}
RANGE = "{low:g} to {high:g}: {about}"
UNTIL = {"accepted": "First accepted", "best": "Most stylized"}
RECIPE = "Model"
LOOK = "Saved looks"
LOOK_HELP = (
    "A look is a small file with these settings, without your photo; portrait stylize --settings reads it too. "
    "The record of an earlier picture can be loaded as well."
)
LOOK_SAVE = "Save this look"
LOOK_LOAD = "Load a look"

MAKE = "Create portrait"
CANCEL = "Cancel"
ANOTHER = "Try again"
ANOTHER_HELP = "a new variation of the picture that is shown"

# The viewer
EMPTY = "Your portrait will appear here."
EMPTY_HOW = "Add a photo to start, then choose a style."
EXAMPLES = "The same photo in every style"
LOADING = "Loading the models. This happens only once…"
LOOKING = "Looking for faces…"
IN_LINE = {2: "One person is ahead of you: you are number 2 in line."}
IN_LINE_MANY = "{ahead} people are ahead of you: you are number {place} in line."
NEXT = "Starting…"
WORKING = "Drawing: step {step} of {total}"
WORKING_AGAIN = "Attempt {attempt}: step {step} of {total}"
WORKING_VARIANT = "Picture {variant} of {variants}, attempt {attempt}: step {step} of {total}"
FORMING_ALT = "The picture, forming"
CANCELLED = "Canceled."
FORGOTTEN = "Photo and pictures deleted."
LOST = "The studio was restarted or you were away for long: your photo and pictures are deleted."
NEED_PHOTO = "Add a photo first."
NEED_FACE = "There are several faces. Click the right one."

BEFORE = "Photo"
AFTER = "Portrait"
COMPARE = "Compare"
COMPARE_SLIDER = "Before and after"
COMPARE_VALUE = "{n}% of the first picture"
COMPARE_WITH = "Compare with"
THE_PHOTO = "the photo"
PICTURE_N = "picture {n}"
SIDE_BY_SIDE = "Side by side"
ZOOM = "Full screen"
ZOOM_CLOSE = "Close"
COPY_PICTURE = "Copy"
SHARE = "Share"
CHOICES = "Choose one"
SHOW_CHOICES = "Show all {n}"
RESULT_ALT = "Portrait {n}: {style}, {verdict}"
VERDICTS = {True: "accepted", False: "rejected"}
ACCEPTED = "Looks like you"
SURE = ((0.001, "very sure"), (0.005, "sure"), (1.0, "just enough"))
"""How many strangers at most would look this much like the photo to the least certain judge -> how sure the verdict is."""
REJECTED = "Not accepted: {why}."
UNLIKE = "Not a close enough likeness"
REJECTED_HOW = "This is the closest attempt. Try “More like the photo”."
CHECKS_PASSED = {1: "One check recognizes you.", 2: "Both checks recognize you."}
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
STRANGERS = "Each check would wrongly accept about 1 stranger in {n:.0f}."
PROVISIONAL = "Note: {note}."
STYLE_ON_FACE = "Redrawn"
STYLE_WORDS = {True: "yes", False: "still too close to the photo"}
DISTANCE_WORDS = {True: "matches the style", False: "does not match the style"}
CHANGED = {"skin": "Lightness of the skin", "expression": "Mouth"}
FEATURES = "Eyes and mouth"
FEATURES_WORDS = {True: "as in the photo", False: "not to be seen"}
CHANGED_WORDS = {True: "as it should be", False: "changed"}
BURNED = "Blown-out colors"
BURNED_WORDS = {True: "none to speak of", False: "too many"}
KEPT = "unchanged"
BROKEN = "changed"
KEPT_LABEL = "Keep {name}"
DETAILS = "Details"
SCORES = "How sure"
ATTEMPTS = "How this picture was made"
DOWNLOAD_PICTURE = "Download"
SIZES = "Sizes"
SIZES_HELP = "avatar sizes, formats of social networks, everything as ZIP"
SIZE_TITLES = {
    "square": "Square post",
    "portrait": "Portrait post",
    "wide": "Wide cover",
    "story": "Story",
    "avatar": "Avatar",
    "round": "Round avatar",
}
SIZE_ABOUT = "{width} × {height}"
SIZE_ENLARGED = "{width} × {height}, enlarged"
DOWNLOAD_ALL = "Everything (ZIP)"
DOWNLOAD_PICTURES = "All {n} pictures with records (ZIP)"
DOWNLOAD_RECORD = "Record (JSON)"
COMMAND = "Command"
COMMAND_INFO = "This command makes the same picture:"
COPY = "Copy command"
COPIED = "Copied"
COPY_FAILED = "Copying is blocked"
COMMAND_PHOTO = "The photo is not a file yet; save it first."

# The history
HISTORY = "Your pictures"
HISTORY_LABEL = "{picture}, strength {balance:g}"
UNDO = "Undo"
STAR = "Star"
DELETE = "Delete"
STARRED = "{picture}, starred"
DROPPED = "The list is full: {n} of your oldest pictures were removed."
RESET = "Start over"
RESET_HELP = "deletes your photo and all pictures"

# Questions
ASK_RESET = "Start over? This deletes your photo and all pictures."
ASK_RESET_UNSAVED = "Start over? This deletes your photo and all pictures. You have not downloaded {n} of them."
ASK_REPLACE = "Change the photo? You have not downloaded {n} of your pictures yet. They stay in the list."
ASK_YES_RESET = "Delete everything"
ASK_YES_REPLACE = "Change photo"
ASK_NO = "Go back"
ASK_SAVE = "Download all"

# The reports
RUN = "Run"
RUN_INFO = "Runs in {root}"
BASELINE = "Compared with"
BASELINE_INFO = "Another run, to see what has changed"
NO_BASELINE = "nothing"
CHOOSE_RUN = "Choose a run to see its report."
REPORT_COMES = "Creating the report…"
REPORT_TITLE = "Report of {run}"

# Errors
NOT_WHOLE = "{label} must be a whole number, got {text!r}"
NOT_A_NUMBER = "{label} must be a number, got {text!r}"
OUT_OF_RANGE = "{label} must be between {low:g} and {high:g}, got {text}"
UNEXPECTED = "Unexpected error: {error}. See the terminal for details."
QUEUE_FULL = "{n} people are already waiting; try again in a minute"
TOO_LARGE_UPLOAD = "The file is {size:.0f} MB, which is over the limit of {limit} MB; use a smaller copy"
UPLOAD_FAILED = "The upload failed; try again"
NO_CAMERA = "No camera available, or access was blocked"
NOT_A_PICTURE = "That was not a file"
ONE_PHOTO = (
    "Those were {n} files; drop one photo, then choose “Add another photo of this person” for each of the others"
)

# Server
BAD_NAME = "{name!r} cannot be the name of a file; rename it"
BACKDROPS_FULL = "There are too many background pictures in this session; start over to add more"
MANY_REFERENCES = "At most {n} more photos of a person are taken; remove one first"
STOPPED = "You were away for long, so the portrait that was being made was stopped; make it again"
DISK_FULL = "The studio cannot write to its disk; tell whoever runs it"
NEED_BACKDROP = "Add the picture that is to stand behind you first"
