"use strict";
document.documentElement.classList.add("live");
// Of the whole document: pairs may come later.
const move = (input) => {
  input.parentElement.style.setProperty("--at", input.value + "%");
  input.setAttribute("aria-valuetext", `${input.value} % before, the rest after`);
};
document.addEventListener("input", (event) => {
  if (event.target.matches(".pair input")) move(event.target);
});
// A browser that goes back to the page keeps the slider's value.
document.querySelectorAll(".pair input").forEach(move);
