// The page's own parts. Each takes the element of a gr.HTML and calls back into Python through `trigger`.
window.portraitStudio = (() => {
  const announcer = () => {
    let region = document.getElementById("announcer");
    if (!region) {
      region = document.createElement("div");
      region.id = "announcer";
      region.className = "sr";
      region.setAttribute("role", "status");
      region.setAttribute("aria-live", "polite");
      document.body.append(region);
    }
    return region;
  };
  let spoken = "";
  const announce = (element) => {
    const said = element.querySelector("[data-announce]");
    const key = said && (said.dataset.announce || said.textContent);
    if (key && key !== spoken) announcer().textContent = said.classList.contains("result") ? key : said.textContent;
    spoken = key || spoken;
  };

  // What was focused stays focused when Python sends the part anew.
  const keepFocus = (element, watch) => {
    let key = null;
    element.addEventListener("focusin", (e) => { key = e.target.dataset ? e.target.dataset.key : null; });
    element.addEventListener("focusout", (e) => { if (e.relatedTarget) key = null; });
    watch("value", () => {
      announce(element);
      // What the visitor moved stays moved; what Python checked is checked.
      element.querySelectorAll("input[type=radio]").forEach((one) => { one.checked = one.hasAttribute("checked"); });
      element.querySelectorAll("option").forEach((one) => { one.selected = one.hasAttribute("selected"); });
      const cut = element.querySelector("[data-key=cut]");
      if (cut) cut.parentElement.style.setProperty("--cut", `${cut.value}%`);
      const side = element.querySelector("[data-side]");
      if (side) element.querySelector(".compare").classList.toggle("side", side.checked);
      if (key && (document.activeElement === document.body || !document.activeElement)) {
        const again = element.querySelector(`[data-key="${key}"]`);
        if (again && !again.disabled) again.focus({ preventScroll: true });
      }
    });
  };

  const problem = (element, text) => {
    element.querySelectorAll(".alert").forEach((old) => old.remove());
    if (!text) return;
    const alert = document.createElement("p");
    alert.className = "alert";
    alert.setAttribute("role", "alert");
    alert.textContent = text;
    (element.querySelector(".drop, .stage, .result") || element.firstElementChild).before(alert);
  };

  const latest = new WeakMap();  // element -> how many files were sent from it; an upload that was slow gives way
  const send = async (element, file, upload, done) => {
    const texts = element.querySelector("input[data-file]").dataset;
    problem(element, "");
    if (!file) return problem(element, texts.nothing);
    if (file.size > texts.limit * 1e6) {
      return problem(element, texts.tooLarge.replace("{size:.0f}", (file.size / 1e6).toFixed(0)).replace("{limit}", texts.limit));
    }
    const mine = (latest.get(element) || 0) + 1;
    latest.set(element, mine);
    element.classList.add("sending");
    try {
      const { path } = await upload(file);
      if (latest.get(element) === mine) done({ path, name: file.name || "", size: file.size });
    } catch (error) {
      if (latest.get(element) === mine) problem(element, texts.failed);
    } finally {
      if (latest.get(element) === mine) element.classList.remove("sending");
    }
  };

  // The photo: file, drop, paste, camera; faces as buttons; a region drawn by hand.
  const photo = (element, trigger, upload, watch) => {
    const take = (file) => send(element, file, upload, (data) => trigger("upload", data));
    let stream = null;
    const cameraOff = () => {
      if (stream) stream.getTracks().forEach((track) => track.stop());
      stream = null;
      const box = element.querySelector(".camera");
      if (box) box.hidden = true;
    };
    keepFocus(element, (prop, done) => watch(prop, () => { cameraOff(); done(); }));
    element.addEventListener("change", (e) => {
      if (e.target.dataset.file === "photo") { take(e.target.files[0]); e.target.value = ""; }
    });
    element.addEventListener("dragover", (e) => { e.preventDefault(); element.classList.add("over"); });
    element.addEventListener("dragleave", () => element.classList.remove("over"));
    element.addEventListener("drop", (e) => {
      e.preventDefault();
      element.classList.remove("over");
      take(e.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (e) => {
      const file = e.clipboardData && [...e.clipboardData.files].find((one) => one.type.startsWith("image/"));
      if (file) { e.preventDefault(); take(file); }
    });
    element.addEventListener("click", async (e) => {
      const face = e.target.closest("[data-face]");
      const act = e.target.closest("[data-act]");
      if (face) {
        element.querySelectorAll("[data-face]").forEach((one) => one.setAttribute("aria-pressed", String(one === face)));
        const hint = element.querySelector("[data-hint]");
        hint.textContent = hint.dataset.chosen.replace("{n}", Number(face.dataset.face) + 1);
        trigger("select", { face: Number(face.dataset.face) });
      } else if (act && act.dataset.act === "camera") {
        const box = element.querySelector(".camera");
        try {
          stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
          const video = box.querySelector("video");
          video.srcObject = stream;
          box.hidden = false;
          await video.play();
          box.querySelector("button").focus();
        } catch (error) {
          problem(element, box.dataset.none);
        }
      } else if (act && act.dataset.act === "camera-off") {
        cameraOff();
      } else if (act && act.dataset.act === "shoot") {
        const video = element.querySelector("video");
        const canvas = document.createElement("canvas");
        canvas.width = video.videoWidth;
        canvas.height = video.videoHeight;
        canvas.getContext("2d").drawImage(video, 0, 0);
        canvas.toBlob((blob) => { cameraOff(); take(new File([blob], "camera.png", { type: "image/png" })); }, "image/png");
      } else if (act && act.dataset.act === "draw") {
        const on = act.getAttribute("aria-pressed") !== "true";
        act.setAttribute("aria-pressed", String(on));
        element.querySelector(".stage").classList.toggle("drawing", on);
        if (on) element.querySelector(".stage").scrollIntoView({ block: "nearest" });  // all of it, to draw on
        element.querySelector("[data-hint]").textContent = on ? act.dataset.help : "";
      }
    });
    let from = null;
    const at = (e, stage) => {
      const box = stage.getBoundingClientRect();
      return [(e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height].map((v) => Math.min(1, Math.max(0, v)));
    };
    const drawn = (e, stage) => {
      const to = at(e, stage);
      return [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
    };
    element.addEventListener("pointerdown", (e) => {
      const stage = e.target.closest(".stage.drawing");
      if (!stage) return;
      e.preventDefault();
      from = at(e, stage);
      stage.setPointerCapture(e.pointerId);
    });
    element.addEventListener("pointermove", (e) => {
      const stage = element.querySelector(".stage");
      if (!from || !stage) return;
      const region = stage.querySelector(".region");
      const [x, y, w, h] = drawn(e, stage);
      region.hidden = false;
      Object.assign(region.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * w}%`, height: `${100 * h}%` });
    });
    element.addEventListener("pointercancel", () => { from = null; });
    element.addEventListener("pointerup", (e) => {
      const stage = element.querySelector(".stage");
      if (!from || !stage) return;
      const [x, y, w, h] = drawn(e, stage);
      const [W, H] = [Number(stage.dataset.width), Number(stage.dataset.height)];
      const [some, draw] = [w * W >= 2 && h * H >= 2, element.querySelector("[data-act=draw]")];
      from = null;
      stage.classList.remove("drawing");
      draw.setAttribute("aria-pressed", "false");
      element.querySelector("[data-hint]").textContent = some ? draw.dataset.done : "";
      if (some) {
        const left = Math.round(x * W), top = Math.round(y * H);
        trigger("input", { region: [left, top, Math.min(W - left, Math.round(w * W)), Math.min(H - top, Math.round(h * H))] });
      } else {
        stage.querySelector(".region").hidden = true;
        trigger("input", { region: null });
      }
    });
  };

  const styles = (element, trigger, upload, watch) => {
    keepFocus(element, watch);
    element.addEventListener("change", (e) => {
      if (e.target.name === "style") trigger("select", { style: e.target.value });
    });
  };

  // The result: before/after, what to do next, the history.
  const result = (element, trigger, upload, watch) => {
    keepFocus(element, watch);
    let working = false;
    watch("value", () => {
      const before = working;
      working = element.querySelector(".working") !== null;
      const top = element.getBoundingClientRect().top;
      if (working && !before && top > window.innerHeight * 0.6) element.scrollIntoView({ block: "start" });  // a phone
    });
    element.addEventListener("input", (e) => {
      if (e.target.dataset.key === "cut") e.target.parentElement.style.setProperty("--cut", `${e.target.value}%`);
    });
    element.addEventListener("change", (e) => {
      if (e.target.dataset.file) {
        send(element, e.target.files[0], upload, (data) => trigger("upload", data));
        e.target.value = "";
      } else if (e.target.matches("[data-compare]")) {
        trigger("select", { compare: e.target.value ? Number(e.target.value) : null });
      } else if (e.target.matches("[data-side]")) {
        element.querySelector(".compare").classList.toggle("side", e.target.checked);
      }
    });
    element.addEventListener("click", (e) => {
      const button = e.target.closest("button");
      if (!button) return;
      if (button.dataset.make) trigger("submit", { act: button.dataset.make });
      else if (button.dataset.show) trigger("select", { show: Number(button.dataset.show) });
      else if (button.dataset.act === "undo") trigger("select", { undo: true });
      else if (button.dataset.act === "reset") trigger("clear");
      else if (button.dataset.act === "copy") {
        const code = element.querySelector("pre code");
        const copied = () => {
          button.textContent = button.dataset.copied;
          announcer().textContent = button.dataset.copied;
        };
        const select = () => {  // without TLS, or without leave, a browser has no clipboard
          getSelection().selectAllChildren(code);
          if (document.execCommand("copy")) copied();
        };
        if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(copied, select);
        else select();
      }
    });
  };

  return { photo, styles, result };
})();
