// What the pages' modules begin with. Without it the pages are whole; with it they move.
import {follow} from "./live.js";
import {showTimes} from "./times.js";
import {keys} from "./keys.js";
import {nodes} from "./nodes.js";
import {orders, copies} from "./orders.js";
import {preferences} from "./preferences.js";

preferences();
showTimes();
keys();
nodes();
orders();
copies();
follow();
