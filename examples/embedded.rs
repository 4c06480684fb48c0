//! How does a ledger live in my process? One durable replica, in a directory of your choice.
//!
//! `cargo run --example embedded [DIRECTORY]`; without one, a temporary directory is used.

use std::error::Error;

use indelible::{Replica, Table};
use serde::{Deserialize, Serialize};

#[derive(Clone, Deserialize, Serialize)]
struct Account {
    owner: String,
    cents: i64,
}

const ACCOUNTS: Table<u64, Account> = Table::new("accounts");

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let directory = std::env::args_os().nth(1).map_or(scratch.path().join("data"), Into::into);
    let replica = Replica::open(directory)?;

    // Every write is a transaction, and its id is greater than that of all before it.
    let ada = Account { owner: "Ada".into(), cents: 100 };
    let opened = replica.put(ACCOUNTS, 1, &ada).wait()?; // In async code: `.await?`
    println!("opened an account in transaction {}", opened.at);

    // A read is linearizable; the version is the id of the transaction that wrote the value.
    let ada = replica.get(ACCOUNTS, 1).wait()?.ok_or("account 1 was just written")?;

    // All of a transaction happens or none of it, and only if everything it requires holds.
    let mut transfer = replica.transaction();
    transfer
        .version(ACCOUNTS, 1, ada.version)
        .absent(ACCOUNTS, 2)
        .put(ACCOUNTS, 1, &Account { cents: 60, ..ada.value })
        .put(ACCOUNTS, 2, &Account { owner: "Bob".into(), cents: 40 });
    match transfer.commit().wait() {
        Ok(done) => println!("moved 40 cents in transaction {}", done.at),
        Err(err) if err.is_refused() => println!("not moved: {err}"),
        Err(err) => return Err(err.into()), // `is_outcome_unknown`: `resolve` tells.
    }

    // A snapshot stands still while the ledger moves on.
    let snapshot = replica.snapshot().wait()?;
    replica.delete(ACCOUNTS, 2).wait()?;
    for entry in snapshot.range(ACCOUNTS, 1..) {
        let (id, account) = entry?;
        println!("{id}: {} has {} cents", account.value.owner, account.value.cents);
    }
    replica.close()?;
    Ok(())
}
