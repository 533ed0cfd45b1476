"use strict";
document.documentElement.classList.add("live");
for (const input of document.querySelectorAll(".pair input")) {
  const move = () => {
    input.parentElement.style.setProperty("--at", input.value + "%");
    input.setAttribute("aria-valuetext", `${input.value} % before, the rest after`);
  };
  input.addEventListener("input", move);
  move(); // a browser that goes back to the page keeps the slider's value
}
