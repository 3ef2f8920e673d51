// Wires the page: one stream in, its events to the panel that they belong to.
//
// The address chooses what to listen to: /?topic=a&topic=b&event=progress&log=nginx&watch=current_price

import { AudiencePanel } from "./audience.js";
import { Connection } from "./connection.js";
import { Dashboard } from "./dashboard.js";
import { DemosPanel } from "./demos.js";
import { EventsPanel } from "./events.js";
import { GeneratePanel } from "./generate.js";
import { JobPanel } from "./job.js";
import { parse } from "./list.js";
import { LogPanel } from "./log.js";
import { PublishPanel } from "./publish.js";
import { makeCollapsible } from "./sections.js";
import { SignInPanel } from "./signin.js";
import { GapNotice, StatePanel, describeGap } from "./state.js";
import { StatsPanel } from "./stats.js";

const MOST_REMEMBERED = 10_000;
const UNKNOWN_LOG = "urn:sse-kit:problem:unknown-log";

const address = new URLSearchParams(location.search);
const METRICS = "server/metric";
const SERVER_TOPICS = ["server/stats", METRICS];
const topics = address.has("topic") ? address.getAll("topic") : ["demo"];
const logTopic = `log/${address.get("log") ?? "nginx"}`;

const log = new LogPanel();
const events = new EventsPanel();
const audience = new AudiencePanel("topics", topics);
const dashboard = new Dashboard();
const stats = new StatsPanel((streams) => audience.streamsAre(streams));
const gapNotice = new GapNotice();
const statePanel = new StatePanel(() => connection.open());

const states = [];
const received = [];
const gaps = [];

const connection = new Connection("events", {
  topics: [...topics, ...SERVER_TOPICS, logTopic],
  onStatus(status) {
    remember(states, status.state);
    statePanel.show(status);
    if (status.state === "ended" && status.problem?.type === UNKNOWN_LOG) {
      // A service without nginx in front shows no log; the rest of the page works without it.
      log.explain(status.problem.detail);
      connection.open([...topics, ...SERVER_TOPICS]);
    } else {
      showLoss(status);
    }
  },
  onEvent(event) {
    const own = { ...event, topic: topics.length === 1 ? topics[0] : null };
    if (event.event === "gap") {
      showGap(event);
    } else if (log.show(event)) {
      remember(received, { ...event, topic: logTopic });
    } else if (!stats.show(event) && !dashboard.show(event)) {
      remember(received, own);
      events.show(own);
    }
  },
});

let isLost = false;

/** Show in the log where the connection was lost and found; the browser's further attempts are no news there. */
function showLoss({ state, problem, since }) {
  if (state === "ended" && problem !== null) {
    log.showEnd(since);
  } else if ((state === "retrying") !== isLost && ["retrying", "live"].includes(state)) {
    isLost = !isLost;
    log.showLoss(isLost, since);
  }
}

function showGap(event) {
  const gap = parse(event.data);
  const text = describeGap(gap);
  remember(gaps, gap);
  if (gap.topic === METRICS) {
    // The charts show it: their lines are broken there.
    return;
  }
  (gap.topic === logTopic ? log : events).showGap(text, event.at);
  gapNotice.show(text);
}

function remember(list, entry) {
  list.push(entry);
  if (list.length > MOST_REMEMBERED) {
    list.shift();
  }
}

function listen(name) {
  connection.listen(name);
  // The names of the server's own events are no news to anybody.
  events.explain(
    topics,
    connection.names.filter((known) => !OWN_NAMES.includes(known)),
  );
}

const OWN_NAMES = ["gap", "line", "truncated", "skipped", "stats", "metric"];
for (const name of [...OWN_NAMES, ...address.getAll("event")]) {
  listen(name);
}
new PublishPanel("publish", { topics, onName: listen });
const generate = new GeneratePanel();
const job = new JobPanel();
const demos = new DemosPanel();
new SignInPanel(() => {
  connection.open();
  resume();
});
makeCollapsible(document.querySelector("main"));

/** Go on with what the tab was doing before it was loaded again, or was signed out. */
function resume() {
  generate.resume();
  job.resume();
  demos.watch(address.get("watch"));
}

// For the browser's console, and for tests: what the page knows, to look at only.
window.sseKit = Object.freeze({
  get status() {
    return { ...connection.status };
  },
  get states() {
    return [...states];
  },
  get received() {
    return [...received];
  },
  get gaps() {
    return [...gaps];
  },
});

connection.open();
resume();
