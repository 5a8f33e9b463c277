//! Time, network and fate; and the promises, looked at after every event.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

use super::super::clock::{Answer, Order, Refusal};
use super::super::moment::Moment;
use super::Tally;
use super::database::{Database, Reply, Request, Row, STEPS, Status, Time};
use super::mutation::Mutation;
use super::process::{Belief, Machine, Phase, Process, Run};

/// Executions at once in a process.
const SLOTS: usize = 2;
const SECOND: Time = 1_000_000;

#[derive(Clone, Debug)]
enum Event {
    /// At the database; `asked` is when it was sent, by the sender's clock.
    Arrive {
        from: usize,
        life: Life,
        asked: Moment,
        request: Request,
    },
    At {
        process: usize,
        life: Life,
        what: What,
    },
    Fate {
        process: usize,
        what: Fate,
    },
}

/// Which life of which process of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    epoch: u32,
    incarnation: u64,
}

#[derive(Clone, Debug)]
enum What {
    Answer {
        asked: Moment,
        request: Request,
        reply: Reply,
    },
    /// The thread of the lease looks at its clock.
    Look {
        number: u64,
    },
    /// Ask for the lease.
    Acquire,
    /// No answer to that.
    NotAcquired {
        ask: u64,
    },
    /// No answer to the recovery of what earlier lives left.
    RecoveryFailed,
    Poll,
    Chores,
    Work {
        row: usize,
        step: usize,
    },
    DrainIsOver,
    HandedBack,
    Stopped,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Start,
    Crash,
    Lost,
    Pause(Time),
    /// As a pause, but the machine's clock stands still as well: nothing in it can know.
    Freeze(Time),
    Resume,
    Drain,
    ClockJumps(i64),
    DatabaseClockJumps(i64),
    CutOff(Time),
}

pub(super) struct World {
    time: Time,
    random: SmallRng,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    events: Vec<Option<Event>>,
    database: Database,
    processes: Vec<Process>,
    /// Per process: events that wait for its end of a pause, and until when it is cut off.
    waiting: Vec<Vec<(Life, What)>>,
    cut_off: Vec<Time>,
    looks: Vec<u64>,
    lost: Vec<bool>,
    /// Incarnations of each place, so that a process knows whose end is certain.
    past: Vec<Vec<u64>>,
    numbers: u64,
    /// Whether clocks keep to what the lease relies on: they go on, at nearly the right pace. Otherwise only the tokens help.
    sound: bool,
    calm_from: Time,
    mutation: Option<Mutation>,
    tally: Tally,
    story: Vec<(Time, usize, String)>,
    tells: bool,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> World {
        let mut random = SmallRng::seed_from_u64(seed);
        let lease = [2, 3, 5, 30][random.random_range(0..4)] * SECOND;
        let count = random.random_range(2..=4);
        let twins = random.random_bool(0.35);
        let sound = random.random_bool(0.8);
        let rows = vec![Row { status: Status::Enqueued, steps: Vec::new() }; random.random_range(2..=6)];
        let processes = (0..count)
            .map(|place| Process {
                id: if twins && place + 1 == count { 0 } else { place },
                machine: Machine {
                    rate: random.random_range(920_000..=1_080_000),
                    ahead: random.random_range(1_000..2_000) * 1_000_000,
                },
                phase: Phase::Down,
                epoch: 0,
                paused: false,
                incarnation: 0,
                before: Vec::new(),
                waited_for: None,
                asks: 0,
                belief: None,
                running: Default::default(),
                draining: false,
            })
            .collect();
        let database =
            Database { lease, ahead: 0, leases: Default::default(), rows, buried: Default::default(), sound, mutation };
        let mut world = World {
            time: SECOND,
            random,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            database,
            processes,
            waiting: vec![Vec::new(); count],
            cut_off: vec![0; count],
            looks: vec![0; count],
            lost: vec![false; count],
            past: vec![Vec::new(); count],
            numbers: 0,
            sound,
            calm_from: SECOND + 5 * lease,
            mutation,
            tally: Tally::default(),
            story: Vec::new(),
            tells: false,
        };
        world.cast(lease);
        world
    }

    /// The faults of this schedule.
    fn cast(&mut self, lease: Time) {
        for place in 0..self.processes.len() {
            let first = self.random.random_range(0..lease / 2);
            self.fate(first, place, Fate::Start);
        }
        if self.random.random_bool(0.3) {
            // Its machine is gone for good, and only others can recover what it left.
            let at = self.random.random_range(lease / 2..3 * lease);
            self.fate(at, self.processes.len() - 1, Fate::Lost);
        }
        for _ in 0..self.random.random_range(3..10) {
            let place = self.random.random_range(0..self.processes.len());
            let at = self.random.random_range(0..5 * lease);
            let long = self.random.random_range(lease / 10..lease * 5 / 2);
            let jump = i64::try_from(long).unwrap_or_default();
            let what = match self.random.random_range(0..7) {
                0 | 1 => Fate::Pause(long),
                2 => Fate::Crash,
                3 => Fate::Drain,
                4 => Fate::CutOff(long),
                5 if self.sound => Fate::ClockJumps(jump),
                5 => Fate::Freeze(long),
                _ if self.sound => Fate::Pause(long),
                _ => Fate::DatabaseClockJumps(if self.random.random_bool(0.5) { jump } else { -jump }),
            };
            self.fate(at, place, what);
        }
    }

    /// Until every row has ended, or a promise is broken.
    pub fn run(&mut self) -> Result<Tally, String> {
        let patience = self.calm_from + 30 * self.database.lease + 120 * SECOND;
        while let Some(Reverse((time, number))) = self.queue.pop() {
            self.time = time;
            self.tally.events += 1;
            let calm = time >= self.calm_from;
            let looked = self.sound || time > self.settled_from();
            if calm && looked && self.database.rows.iter().all(|row| row.status == Status::Done) {
                self.look()?;
                return Ok(std::mem::take(&mut self.tally));
            }
            if time > patience {
                return Err(format!("rows never end: {:?}", self.database.rows));
            }
            let index = usize::try_from(number).expect("small");
            let Some(event) = self.events[index].take() else { continue };
            self.handle(event)?;
            self.look()?;
        }
        Err("nothing happens any more, and rows haven't ended".into())
    }

    /// When clocks that went wrong have gone right for so long that everybody has found out.
    fn settled_from(&self) -> Time {
        self.calm_from + 8 * self.database.lease
    }

    /// A worker never believes for longer than the database that it lives.
    fn look(&self) -> Result<(), String> {
        if !self.sound && self.time < self.settled_from() {
            return Ok(());
        }
        for (place, process) in self.processes.iter().enumerate() {
            if self.believes(place) && !self.database.lives(process.id, process.incarnation, self.time) {
                return Err(format!("process {place} thinks itself alive and is dead to the database"));
            }
        }
        Ok(())
    }

    fn believes(&self, place: usize) -> bool {
        let process = &self.processes[place];
        let forgets = self.mutation == Some(Mutation::DrainWithoutRenewal) && process.phase == Phase::Draining;
        forgets || process.may_work(self.time)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive { from, life, asked, request } => self.arrive(from, life, asked, request),
            Event::At { process, life, what } => {
                if self.processes[process].epoch != life.epoch || self.processes[process].phase == Phase::Down {
                    return Ok(());
                }
                if self.processes[process].paused {
                    self.waiting[process].push((life, what));
                    return Ok(());
                }
                if self.processes[process].incarnation == life.incarnation { self.at(process, what) } else { Ok(()) }
            }
            Event::Fate { process, what } => self.strike(process, what),
        }
    }

    /// A request is done, and its answer goes back.
    fn arrive(&mut self, from: usize, life: Life, asked: Moment, request: Request) -> Result<(), String> {
        self.tell(from, || format!("arrives: {request:?}"));
        let (reply, effects) = self.database.serve(request.clone(), self.time)?;
        for (row, executor, token) in effects.taken {
            self.tally.takeovers += 1;
            self.tell(from, || format!("row {row} is taken from worker {executor}"));
            let owns = |process: &Process| {
                process.id == executor && process.running.get(&row).is_some_and(|run| run.token == token)
            };
            let robbed = self.sound
                && (0..self.processes.len()).any(|place| owns(&self.processes[place]) && self.believes(place));
            if robbed {
                return Err(format!("row {row} is taken from worker {executor}, which lives and runs it"));
            }
        }
        let heard = !matches!(request, Request::RecoverDead { .. } | Request::Stranded { .. } | Request::Resign { .. });
        if heard && !self.is_lost(from) {
            let delay = self.delay();
            let what = What::Answer { asked, request, reply };
            self.push(delay, Event::At { process: from, life, what });
        }
        Ok(())
    }

    fn at(&mut self, place: usize, what: What) -> Result<(), String> {
        let lease = self.database.lease;
        match what {
            What::Answer { asked, request, reply } => return self.answered(place, asked, request, reply),
            What::Look { number } => {
                if number == self.looks[place] {
                    self.renew(place);
                }
            }
            What::Acquire => {
                if self.processes[place].phase == Phase::Acquiring {
                    let Process { id, incarnation, .. } = self.processes[place];
                    let replace = self.processes[place].before.clone();
                    self.send(place, Request::Acquire { id, incarnation, replace });
                    self.processes[place].asks += 1;
                    self.after(lease, place, What::NotAcquired { ask: self.processes[place].asks });
                }
            }
            What::NotAcquired { ask } => {
                // Nobody knows what became of the question. The next life has another incarnation.
                if self.processes[place].phase == Phase::Acquiring && self.processes[place].asks == ask {
                    if self.processes[place].draining { self.exit(place) } else { self.live(place) }
                }
            }
            What::RecoveryFailed => {
                if self.processes[place].phase == Phase::Recovering {
                    self.live(place);
                }
            }
            What::Poll => {
                if self.processes[place].phase == Phase::Serving {
                    let most = SLOTS.saturating_sub(self.processes[place].running.len());
                    if most > 0 {
                        let token = self.number();
                        let id = self.processes[place].id;
                        self.send_fenced(place, Request::Claim { id, token, most })?;
                    }
                    let pause = self.random.random_range(lease / 8..lease / 3);
                    self.after(pause, place, What::Poll);
                }
            }
            What::Chores => {
                if matches!(self.processes[place].phase, Phase::Serving | Phase::Draining) {
                    let id = self.processes[place].id;
                    let tokens = self.processes[place].running.values().map(|run| run.token).collect();
                    self.send_fenced(place, Request::RecoverDead { id })?;
                    self.send_fenced(place, Request::Stranded { id, tokens })?;
                    let pause = self.random.random_range(lease / 5..lease / 3);
                    self.after(pause, place, What::Chores);
                }
            }
            What::Work { row, step } => {
                let Some(run) = self.processes[place].running.get(&row).copied() else { return Ok(()) };
                if run.step == step {
                    let Run { token, write, .. } = run;
                    self.send_fenced(place, Request::Write { row, token, step, write })?;
                    self.after(lease, place, What::Work { row, step }); // in case that there is no answer
                }
            }
            What::DrainIsOver => {
                if self.processes[place].phase == Phase::Draining {
                    let rows = std::mem::take(&mut self.processes[place].running);
                    let rows = rows.into_iter().map(|(row, run)| (row, run.token)).collect();
                    self.send_fenced(place, Request::HandBack { rows })?;
                    self.after(lease / 2, place, What::HandedBack);
                }
            }
            What::HandedBack => {
                if self.processes[place].phase == Phase::Draining {
                    self.resign(place);
                }
            }
            What::Stopped => {
                if self.processes[place].phase == Phase::Stopping {
                    self.processes[place].running.clear();
                    if self.processes[place].draining { self.resign(place) } else { self.live(place) }
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, place: usize, asked: Moment, request: Request, reply: Reply) -> Result<(), String> {
        let time = self.time;
        let now = self.processes[place].machine.now(time);
        let phase = self.processes[place].phase;
        match reply {
            Reply::Acquired if phase == Phase::Acquiring => {
                let lease = Duration::from_micros(self.database.lease);
                self.processes[place].belief = Some(Belief::new(lease, asked, now, self.mutation));
                self.processes[place].phase = Phase::Recovering;
                let Process { id, incarnation, .. } = self.processes[place];
                self.tell(place, || "has its lease".into());
                self.renew(place);
                self.send_fenced(place, Request::RecoverOwn { id, incarnation })?;
                self.after(self.database.lease, place, What::RecoveryFailed);
            }
            Reply::Held { incarnation, left } if phase == Phase::Acquiring => {
                self.processes[place].asks += 1; // this one has its answer
                if self.past[place].contains(&incarnation) {
                    self.processes[place].before.push(incarnation); // a process that is certainly gone
                    self.after(0, place, What::Acquire);
                } else if self.processes[place].waited_for == Some(incarnation) {
                    self.tally.twins += 1;
                    self.tell(place, || "finds its id taken".into());
                    self.exit(place);
                } else {
                    self.processes[place].waited_for = Some(incarnation);
                    self.after(left + SECOND / 10, place, What::Acquire);
                }
            }
            Reply::Renewed | Reply::NotRenewed { .. } => {
                let answer = match reply {
                    Reply::NotRenewed { taken_over: true } => Answer::Refused(Refusal::Gone),
                    Reply::NotRenewed { taken_over: false } => Answer::Refused(Refusal::Ended),
                    _ => Answer::Granted,
                };
                let served = matches!(phase, Phase::Recovering | Phase::Serving | Phase::Draining | Phase::Stopping);
                if let Some(belief) = self.processes[place].belief.as_mut().filter(|_| served) {
                    belief.answered(asked, now, answer);
                    if phase == Phase::Stopping {
                        // Only a worker that takes a late answer as good goes on.
                        if self.mutation == Some(Mutation::LateAnswerCounts) && belief.may_work(now) {
                            self.processes[place].phase = Phase::Serving;
                            self.after(0, place, What::Poll);
                        }
                    }
                    self.renew(place);
                }
            }
            Reply::Claimed(rows) => {
                let Request::Claim { token, .. } = request else { return Ok(()) };
                let serves = matches!(phase, Phase::Serving | Phase::Draining) && self.believes(place);
                let late = self.mutation == Some(Mutation::LateClaimStarts);
                if serves || late {
                    for (row, step) in rows {
                        self.start(place, row, step, token)?;
                    }
                } else if !rows.is_empty() {
                    self.tally.fenced += 1;
                }
            }
            Reply::Written | Reply::NotOwned => {
                let Request::Write { row, token, step, .. } = request else { return Ok(()) };
                let write = self.number();
                let running = &mut self.processes[place].running;
                let Some(run) = running.get_mut(&row).filter(|run| run.token == token && run.step == step) else {
                    return Ok(());
                };
                run.step += 1;
                run.write = write;
                if matches!(reply, Reply::NotOwned) || step + 1 == STEPS {
                    running.remove(&row);
                } else {
                    let pause = self.random.random_range(0..self.database.lease);
                    self.after(pause, place, What::Work { row, step: step + 1 });
                }
            }
            Reply::Done => match request {
                Request::RecoverOwn { .. } if phase == Phase::Recovering => {
                    let draining = self.processes[place].draining;
                    self.processes[place].phase = Phase::Serving;
                    self.after(0, place, What::Poll);
                    self.after(self.database.lease / 4, place, What::Chores);
                    if draining {
                        self.strike(place, Fate::Drain)?;
                    }
                }
                Request::HandBack { .. } if phase == Phase::Draining => self.resign(place),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// An execution begins, or begins again.
    fn start(&mut self, place: usize, row: usize, step: usize, token: u64) -> Result<(), String> {
        self.tell(place, || format!("starts row {row} at step {step}"));
        if self.sound {
            let Process { id, incarnation, .. } = self.processes[place];
            if !self.database.lives(id, incarnation, self.time) {
                return Err(format!("process {place} starts row {row} and is dead to the database"));
            }
            let other = (0..self.processes.len()).find(|other| {
                *other != place && self.processes[*other].running.contains_key(&row) && self.believes(*other)
            });
            if let Some(other) = other {
                return Err(format!("row {row} starts in process {place} while process {other}, which lives, runs it"));
            }
        }
        let write = self.number();
        self.processes[place].running.insert(row, Run { token, step, write });
        let pause = self.random.random_range(0..self.database.lease / 2);
        self.after(pause, place, What::Work { row, step });
        Ok(())
    }

    /// What the thread of the lease does when it looks at its clock.
    fn renew(&mut self, place: usize) {
        let process = &mut self.processes[place];
        if process.phase == Phase::Draining && self.mutation == Some(Mutation::DrainWithoutRenewal) {
            return;
        }
        let now = process.machine.now(self.time);
        let machine = process.machine;
        let Process { id, incarnation, phase, .. } = *process;
        let Some(belief) = &mut process.belief else { return };
        let grace = belief.grace();
        let pause = match belief.order(now) {
            Order::Ask => {
                self.send(place, Request::Renew { id, incarnation });
                0
            }
            Order::Wait(until) => machine.lasts(until.since(now)).min(self.database.lease / 4),
            Order::Stop(_) if phase == Phase::Stopping && belief.is_over(now) => {
                // Something in it never yields: the process ends itself.
                self.tell(place, || "can't stop, and exits".into());
                self.exit(place);
                return;
            }
            Order::Stop(_) => {
                if phase != Phase::Stopping {
                    self.tally.losses += 1;
                    self.tell(place, || "loses its lease".into());
                    self.processes[place].phase = Phase::Stopping;
                    if !self.random.random_bool(0.1) {
                        let grace = Time::try_from(grace.as_micros()).expect("short");
                        let pause = self.random.random_range(0..grace / 2);
                        self.after(pause, place, What::Stopped);
                    }
                }
                SECOND / 10
            }
        };
        self.looks[place] += 1;
        let number = self.looks[place];
        let late = self.random.random_range(0..SECOND / 50);
        self.after(pause + late, place, What::Look { number });
    }

    fn strike(&mut self, place: usize, what: Fate) -> Result<(), String> {
        self.tell(place, || format!("{what:?}"));
        match what {
            Fate::Start => {
                if self.processes[place].phase == Phase::Down && !self.lost[place] {
                    self.processes[place].epoch += 1;
                    self.processes[place].before.clear();
                    self.processes[place].draining = false;
                    self.live(place);
                }
            }
            Fate::Crash => self.exit(place),
            Fate::Lost => {
                self.exit(place);
                self.lost[place] = true;
            }
            Fate::Pause(long) => {
                self.processes[place].paused = true;
                self.fate(long, place, Fate::Resume);
            }
            Fate::Freeze(long) => {
                let Process { machine, .. } = self.processes[place];
                let counted = machine.now(self.time + long).since(machine.now(self.time));
                self.processes[place].paused = true;
                let back = i64::try_from(counted.as_micros()).expect("short");
                self.fate(long, place, Fate::ClockJumps(-back));
                self.fate(long, place, Fate::Resume);
            }
            Fate::Resume => {
                let asleep = self.processes[place].belief.is_some() && !self.believes(place);
                self.tally.zombies += u64::from(asleep);
                self.processes[place].paused = false;
                let mut waiting = std::mem::take(&mut self.waiting[place]);
                waiting.shuffle(&mut self.random); // whoever wakes up first
                for (life, what) in waiting {
                    self.push(0, Event::At { process: place, life, what });
                }
            }
            Fate::Drain => {
                self.processes[place].draining = true;
                if self.processes[place].phase == Phase::Serving {
                    self.tally.drains += 1;
                    self.processes[place].phase = Phase::Draining;
                    let pause = self.random.random_range(0..2 * self.database.lease);
                    self.after(pause, place, What::DrainIsOver);
                }
            }
            Fate::ClockJumps(jump) => self.processes[place].machine.ahead += jump,
            Fate::DatabaseClockJumps(jump) => self.database.ahead += jump,
            Fate::CutOff(long) => self.cut_off[place] = self.time + long,
        }
        Ok(())
    }

    /// A new life in the same process.
    fn live(&mut self, place: usize) {
        let incarnation = self.number();
        let process = &mut self.processes[place];
        if process.incarnation != 0 {
            process.before.push(process.incarnation);
        }
        process.incarnation = incarnation;
        process.phase = Phase::Acquiring;
        process.waited_for = None;
        process.belief = None;
        process.running.clear();
        self.past[place].push(incarnation);
        self.after(0, place, What::Acquire);
    }

    /// The renewal ends, then the lease is given up, then the process.
    fn resign(&mut self, place: usize) {
        let Process { id, incarnation, .. } = self.processes[place];
        self.processes[place].belief = None;
        self.send(place, Request::Resign { id, incarnation });
        self.exit(place);
    }

    /// The process is gone, and somebody starts it again.
    fn exit(&mut self, place: usize) {
        let process = &mut self.processes[place];
        process.phase = Phase::Down;
        process.belief = None;
        process.running.clear();
        self.waiting[place].clear();
        let pause = self.random.random_range(0..self.database.lease);
        self.fate(pause, place, Fate::Start);
    }

    /// Send what only a live worker may send.
    fn send_fenced(&mut self, place: usize, request: Request) -> Result<(), String> {
        let blind = self.mutation == Some(Mutation::NoFence);
        if !blind && !self.believes(place) {
            self.tally.fenced += 1;
            return Ok(());
        }
        let Process { id, incarnation, .. } = self.processes[place];
        if self.sound && !self.database.lives(id, incarnation, self.time) {
            return Err(format!("process {place} is dead to the database and sends {request:?}"));
        }
        self.send(place, request);
        Ok(())
    }

    fn send(&mut self, from: usize, request: Request) {
        let Process { epoch, incarnation, machine, .. } = self.processes[from];
        let asked = machine.now(self.time);
        let life = Life { epoch, incarnation };
        if !self.is_lost(from) {
            let delay = self.delay();
            self.push(delay, Event::Arrive { from, life, asked, request });
        }
    }

    fn is_lost(&mut self, place: usize) -> bool {
        let calm = self.time >= self.calm_from;
        !calm && (self.time < self.cut_off[place] || self.random.random_bool(0.05))
    }

    /// Requests and answers overtake each other; together they take less time than what is held to be stranded.
    fn delay(&mut self) -> Time {
        let calm = self.time >= self.calm_from;
        if !calm && self.random.random_bool(0.1) {
            self.random.random_range(0..self.database.lease * 9 / 10)
        } else {
            self.random.random_range(1_000..50_000)
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn after(&mut self, pause: Time, place: usize, what: What) {
        let Process { epoch, incarnation, .. } = self.processes[place];
        self.push(pause, Event::At { process: place, life: Life { epoch, incarnation }, what });
    }

    fn fate(&mut self, pause: Time, process: usize, what: Fate) {
        self.push(pause, Event::Fate { process, what });
    }

    fn push(&mut self, pause: Time, event: Event) {
        let number = self.events.len() as u64;
        self.events.push(Some(event));
        self.queue.push(Reverse((self.time + pause, number)));
    }

    fn tell(&mut self, place: usize, what: impl FnOnce() -> String) {
        if self.tells {
            self.story.push((self.time, place, what()));
        }
    }

    /// Also tell what happens, which takes time.
    pub fn telling(mut self) -> World {
        self.tells = true;
        self
    }

    /// What happened, if it was to be told.
    pub fn story(&self) -> String {
        let line = |(time, place, what): &(Time, usize, String)| {
            format!("{:>12.6} process {place} {what}\n", Duration::from_micros(*time).as_secs_f64())
        };
        self.story.iter().map(line).collect()
    }
}
