//! How blank replicas become a cluster: the scripts in `tests/formation`, each named after its
//! claim.

mod support;

use std::collections::BTreeMap;

use indelible::ReplicaId;
use indelible::paxos::formation::{Agreement, Formation};
use indelible::types::ids::Incarnation;
use indelible::types::membership::Membership;
use indelible::types::message::{Introduce, Message};
use support::script::{self, Command};

#[test]
fn scripts_hold() {
    for path in script::scripts("tests/formation") {
        let mut replicas = BTreeMap::new();
        script::run(&path, &mut |command| interpret(&mut replicas, command));
    }
}

/// A replica and what its identity file holds.
struct Replica {
    own: Introduce,
    /// Durable.
    agreed: Option<Membership>,
    formed: bool,
    /// What must be made durable before anything is said of it.
    pending: Option<Agreement>,
    formation: Formation,
}

type Replicas = BTreeMap<ReplicaId, Replica>;

fn open(id: ReplicaId, own: Introduce, agreed: Option<Membership>) -> Replica {
    let formation = Formation::new(id, own.clone(), agreed.clone());
    let pending = formation.next_agreement();
    Replica { own, agreed, formed: false, pending, formation }
}

fn interpret(replicas: &mut Replicas, command: &Command) -> String {
    let id = || ReplicaId(command.arg(0));
    match command.name.as_str() {
        // open REPLICA voters=1,2,3 [phase1= phase2=] [address=] [incarnation=] [2=ADDRESS]:
        // a blank directory.
        "open" => {
            let id = id();
            let number: u64 = command.arg(0);
            let voters = command.list("voters").into_iter().map(ReplicaId).collect::<Vec<_>>();
            let majority = voters.len() as u32 / 2 + 1;
            let address = |id: &ReplicaId| {
                let usual = match *id == ReplicaId(number) {
                    true => command.option_or("address", format!("replica-{number}")),
                    false => format!("replica-{id}"),
                };
                command.option_or(&id.to_string(), usual)
            };
            let addresses = voters.iter().map(address).collect::<Vec<_>>();
            let own = Introduce {
                addresses,
                incarnation: Incarnation(command.option_or("incarnation", u128::from(number))),
                address: command.option_or("address", format!("replica-{number}")),
                phase1: command.option_or("phase1", majority),
                phase2: command.option_or("phase2", majority),
                voters,
            };
            replicas.insert(id, open(id, own, None));
        }
        // say FROM TO...: announces itself.
        "say" => {
            let message = replicas[&id()].formation.announcement();
            let to = command.args_from::<u64>(1);
            return to
                .into_iter()
                .map(|to| hear(replicas, id(), ReplicaId(to), &message))
                .collect();
        }
        // sync REPLICA: its agreement is durable, and so are those that follow from it.
        "sync" => return sync(replicas, id()),
        // crash REPLICA: what is not durable is lost; it opens again.
        "crash" => {
            let Replica { own, agreed, formed, .. } = replicas.remove(&id()).expect("it is open");
            assert!(!formed, "a formed replica does not form again");
            replicas.insert(id(), open(id(), own, agreed));
        }
        // settle: all say what there is to say, and sync, until nothing changes.
        "settle" => {
            let mut told = String::new();
            for _ in 0..10 {
                for id in replicas.keys().copied().collect::<Vec<_>>() {
                    told += &sync(replicas, id);
                    let message = replicas[&id].formation.announcement();
                    for to in replicas.keys().copied().filter(|to| *to != id).collect::<Vec<_>>() {
                        hear(replicas, id, to, &message);
                    }
                }
            }
            return told;
        }
        "status" => return replicas.iter().map(status).collect(),
        _ => command.reject("unknown command"),
    }
    String::new()
}

fn hear(replicas: &mut Replicas, from: ReplicaId, to: ReplicaId, message: &Message) -> String {
    let replica = replicas.get_mut(&to).expect("it is open");
    let agreement = replica.formation.on_message(from, message.clone());
    let wants = match &agreement {
        Some(agreement) => format!(", to agree to {}", agreement.membership),
        None => String::new(),
    };
    replica.pending = agreement.or(replica.pending.take());
    format!("{from} → {to} {}{wants}\n", message.name())
}

fn sync(replicas: &mut Replicas, id: ReplicaId) -> String {
    let replica = replicas.get_mut(&id).expect("it is open");
    let mut told = String::new();
    while let Some(agreement) = replica.pending.take() {
        let news = (replica.agreed.as_ref(), replica.formed)
            != (Some(&agreement.membership), agreement.formed);
        replica.agreed = Some(agreement.membership.clone());
        replica.formed = agreement.formed;
        replica.formation.agreed(agreement);
        if news {
            let how = if replica.formed { "formed" } else { "agreed" };
            told += &format!("{id} {how} {}\n", replica.agreed.as_ref().expect("just set"));
        }
        replica.pending = replica.formation.next_agreement();
    }
    told
}

fn status((id, replica): (&ReplicaId, &Replica)) -> String {
    let how = match (&replica.agreed, replica.formed) {
        (None, _) => "blank".into(),
        (Some(membership), false) => format!("agreed {membership}"),
        (Some(membership), true) => format!("formed {membership}"),
    };
    let missing = replica.formation.missing();
    let missing = match missing.is_empty() {
        true => String::new(),
        false => format!(" missing={missing:?}"),
    };
    let trouble = replica.formation.trouble();
    let trouble = trouble.map_or(String::new(), |trouble| format!("  {trouble}\n"));
    format!("{id} {how}{missing}\n{trouble}")
}
