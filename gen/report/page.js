"use strict";
// What every page has: its data, elements by their name, and new ones.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);

function element(parent, name, attributes = {}, text = "") {
  const svg = parent.namespaceURI.endsWith("svg");
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  parent.append(made);
  return made;
}
