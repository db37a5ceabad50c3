//! What is told of a folder's state: identities, other folders in its place, folders that cannot be
//! read.

use super::*;

impl Told {
    /// The ids of all that was told.
    fn ids(&self) -> std::collections::BTreeSet<String> {
        self.events
            .iter()
            .map(|event| event.id().to_string())
            .collect()
    }
}

/// Its parent moves, so that nothing about the file itself changes.
#[tokio::test]
async fn a_folder_moved_away_back_and_away_again_is_four_events_also_over_restarts() {
    for restarts in [false, true] {
        let fixture = Fixture::new(&json!({}));
        fixture.write("box/f", "x");
        let (inside, outside) = (fixture.path("box"), fixture.folder.path().join("elsewhere"));
        let mut told = Told::open(&fixture, None).await;
        assert_eq!(told.next(1).await, ["created box/f"]);
        for (from, to, expect) in [
            (&inside, &outside, "deleted"),
            (&outside, &inside, "created"),
            (&inside, &outside, "deleted"),
        ] {
            std::fs::rename(from, to).unwrap();
            if restarts {
                told.source = open(&fixture, told.stored.clone(), false).await;
            }
            assert_eq!(told.next(1).await, [format!("{expect} box/f")]);
        }
        assert_eq!(told.ids().len(), 4, "{:?}", told.ids());
    }
}

#[tokio::test]
async fn a_release_swapped_and_swapped_back_is_told_each_time() {
    let fixture = Fixture::new(&json!({ "settle": "200ms" }));
    let (one, two) = (
        fixture.folder.path().join("one"),
        fixture.folder.path().join("two"),
    );
    for release in [&one, &two] {
        std::fs::create_dir(release).unwrap();
        let file = std::fs::File::create(release.join("index.html")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .unwrap();
    }
    let current = fixture.path("current");
    std::fs::rename(&one, &current).unwrap();
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, ["created current/index.html"]);
    for (aside, comes) in [(&one, &two), (&two, &one), (&one, &two)] {
        std::fs::rename(&current, aside).unwrap();
        std::fs::rename(comes, &current).unwrap();
        assert_eq!(told.next(1).await, ["updated current/index.html"]);
    }
    assert_eq!(told.ids().len(), 4, "{:?}", told.ids());
}

#[tokio::test]
async fn a_file_replaced_by_one_of_equal_size_and_time_is_told_and_a_changed_mode_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new(&json!({}));
    let then = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let write = |path: &std::path::Path, content: &str| {
        std::fs::write(path, content).unwrap();
        std::fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(then)
            .unwrap();
    };
    write(&fixture.path("a"), "1");
    let mut told = Told::open(&fixture, None).await;
    told.next(1).await;
    // As `rsync -t` does.
    write(&fixture.path(".a.Xy3z"), "2");
    std::fs::rename(fixture.path(".a.Xy3z"), fixture.path("a")).unwrap();
    assert_eq!(told.next(1).await, ["updated a"]);
    // As `cp -p` over it, or a write and `touch -r`, do.
    write(&fixture.path("a"), "3");
    assert_eq!(told.next(1).await, ["updated a"]);
    // While nothing runs, too.
    told.source = open(&fixture, told.stored.clone(), false).await;
    write(&fixture.path("a"), "4");
    assert_eq!(told.next(1).await, ["updated a"]);
    assert_eq!(told.ids().len(), 4, "{:?}", told.ids());

    std::fs::set_permissions(fixture.path("a"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::hard_link(fixture.path("a"), fixture.folder.path().join("link")).unwrap();
    fixture.write("b", "1");
    assert_eq!(told.next(1).await, ["created b"], "no content has changed");
    // From then on it is known as it is.
    write(&fixture.path("a"), "5");
    assert_eq!(told.next(1).await, ["updated a"]);
}

#[tokio::test]
async fn of_a_file_at_most_one_change_goes_with_a_batch() {
    let fixture = Fixture::new(&json!({ "settle": "0ms" }));
    for n in 0..300 {
        fixture.write(&format!("many/{n}"), "");
    }
    let mut source = open(&fixture, None, false).await;
    let (inside, outside) = (fixture.path("many/0"), fixture.folder.path().join("0"));
    let (mut told, mut of_one, mut moves) = (0, Vec::new(), 1);
    while of_one.len() < 9 {
        let batch = next_within(&mut *source, LONG).await.unwrap().unwrap();
        let mut subjects = Vec::new();
        for message in batch.messages {
            let Some(Arrival::Event(event)) = message.arrivals.into_iter().next() else {
                continue;
            };
            let subject = event.subject().unwrap().to_string();
            if subject == "many/0" {
                of_one.push(event.id().to_string());
            }
            subjects.push(subject);
        }
        told += subjects.len();
        let count = subjects.len();
        subjects.sort();
        subjects.dedup();
        assert_eq!(subjects.len(), count, "told twice of a file in a batch");
        if told >= 300 && of_one.len() == moves {
            moves += 1;
            let (from, to) = if inside.exists() {
                (&inside, &outside)
            } else {
                (&outside, &inside)
            };
            std::fs::rename(from, to).unwrap();
        }
    }
    of_one.sort();
    of_one.dedup();
    assert_eq!(of_one.len(), 9);
}

#[tokio::test]
async fn another_folder_in_its_place_tells_nothing_until_the_old_one_is_back_or_it_is_accepted() {
    let mut fixture = Fixture::new(&json!({}));
    fixture.write("a", "1");
    fixture.write("b", "1");
    let mut told = Told::open(&fixture, None).await;
    told.next(2).await;
    let aside = fixture.folder.path().join("aside");
    std::fs::rename(fixture.path(""), &aside).unwrap();
    std::fs::create_dir(fixture.path("")).unwrap();
    let ended = next_within(&mut *told.source, LONG).await.unwrap();
    assert!(
        matches!(&ended, Err(SourceError::Unavailable(why)) if why.contains("taken its place")),
        "{ended:?}"
    );
    let opened = async |fixture: &Fixture, stored: &Stored| {
        let context = SourceContext {
            cursor: stored.cursor.clone(),
            positions: stored.positions(),
            ..context()
        };
        parse(&fixture.settings)
            .open(context)
            .await
            .map_err(|error| error.to_string())
    };
    let held = opened(&fixture, &told.stored).await.err().unwrap();
    assert!(
        held.starts_with("path: ")
            && held.contains("another folder")
            && held.contains("replaced: tell"),
        "{held}"
    );
    fixture.write("c", "1");
    assert!(
        opened(&fixture, &told.stored).await.is_err(),
        "what comes there changes nothing"
    );

    // One that holds the same files, on another disk or restored, is followed.
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::copy(from, to).unwrap();
        let modified = std::fs::metadata(from).unwrap().modified().unwrap();
        std::fs::File::options()
            .write(true)
            .open(to)
            .unwrap()
            .set_modified(modified)
            .unwrap();
    };
    copy(&aside.join("a"), &fixture.path("a"));
    copy(&aside.join("b"), &fixture.path("b"));
    let mut copied = Told::open(&fixture, told.stored.clone()).await;
    let expect = ["created c", "updated a", "updated b"];
    assert_eq!(copied.next(3).await, expect, "they are other files");
    let identity = listing::identity(&std::fs::metadata(fixture.path("")).unwrap());
    let followed = position::Position {
        generation: 0,
        mounts: [(Vec::new(), identity)].into(),
        files: Default::default(),
    };
    assert_eq!(
        copied.stored.rows.get(&b""[..]),
        followed.folder_row().value.as_ref()
    );

    // The old one comes back.
    std::fs::remove_dir_all(fixture.path("")).unwrap();
    std::fs::rename(&aside, fixture.path("")).unwrap();
    fixture.write("d", "1");
    told.source = opened(&fixture, &told.stored).await.unwrap();
    assert_eq!(told.next(1).await, ["created d"]);

    // A new one is accepted.
    let another = |fixture: &Fixture| {
        // Made beside the old one, so that it does not get the same inode.
        let new = fixture.folder.path().join("new");
        std::fs::create_dir(&new).unwrap();
        std::fs::remove_dir_all(fixture.path("")).unwrap();
        std::fs::rename(new, fixture.path("")).unwrap();
    };
    another(&fixture);
    assert!(opened(&fixture, &told.stored).await.is_err());
    fixture.settings["replaced"] = "tell".into();
    told.source = opened(&fixture, &told.stored).await.unwrap();
    assert_eq!(told.next(3).await, ["deleted a", "deleted b", "deleted d"]);
    fixture.settings.as_object_mut().unwrap().remove("replaced");
    another(&fixture);
    fixture.write("e", "1");
    told.source = opened(&fixture, &told.stored).await.unwrap();
    assert_eq!(
        told.next(1).await,
        ["created e"],
        "where nothing is known nothing can be missed"
    );
}

/// Mounts a file system of its own; false, with a line, where that is not permitted.
fn mount(at: &std::path::Path) -> bool {
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "pointsman-test"])
        .arg(at)
        .output();
    let is_mounted = mounted.is_ok_and(|output| output.status.success());
    if !is_mounted {
        println!("left out: nothing can be mounted here");
    }
    is_mounted
}

/// A file system that is mounted as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn unmount(&self) {
        assert!(
            std::process::Command::new("umount")
                .arg("-l")
                .arg(&self.0)
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .output();
    }
}

#[tokio::test]
async fn a_share_that_is_not_mounted_deletes_nothing() {
    let fixture = Fixture::new(&json!({ "reconcile": "1s" }));
    if !mount(&fixture.path("")) {
        return;
    }
    let mounted = Mounted(fixture.path(""));
    fixture.write("a", "1");
    let mut told = Told::open(&fixture, None).await;
    told.next(1).await;
    mounted.unmount();
    let ended = next_within(&mut *told.source, LONG).await.unwrap();
    assert!(
        matches!(&ended, Err(SourceError::Unavailable(why)) if why.contains("taken its place")),
        "{ended:?}"
    );
    let held = parse(&fixture.settings)
        .open(SourceContext {
            cursor: told.stored.cursor.clone(),
            positions: told.stored.positions(),
            ..context()
        })
        .await;
    assert!(held.is_err_and(|error| error.to_string().contains("mount its share")));
}

#[tokio::test]
async fn a_share_inside_the_folder_that_is_not_mounted_deletes_nothing_and_hides_nothing() {
    let fixture = Fixture::new(&json!({ "reconcile": "1s" }));
    fixture.write("beside", "1");
    std::fs::create_dir(fixture.path("share")).unwrap();
    if !mount(&fixture.path("share")) {
        return;
    }
    let mounted = Mounted(fixture.path("share"));
    fixture.write("share/deep/a", "1");
    let mut told = Told::open(&fixture, None).await;
    told.next(2).await;
    mounted.unmount();
    fixture.write("new", "1");
    assert_eq!(told.next(1).await, ["created new"]);
    let quiet = next_within(&mut *told.source, Duration::from_millis(2_500)).await;
    assert!(quiet.is_none(), "{quiet:?}");
    told.source = open(&fixture, told.stored.clone(), false).await;
    std::fs::remove_file(fixture.path("beside")).unwrap();
    assert_eq!(told.next(1).await, ["deleted beside"]);
    let quiet = next_within(&mut *told.source, Duration::from_millis(2_500)).await;
    assert!(quiet.is_none(), "{quiet:?}");
}

/// How long a change may take to be told by a hint; a listing takes five minutes.
const HINTED: Duration = Duration::from_secs(15);

#[tokio::test]
async fn folders_are_watched_wherever_they_come_from() {
    let fixture = Fixture::new(&json!({}));
    fixture.write("deep/er/a", "1");
    let mut told = Told::open(&fixture, None).await;
    told.next(1).await;
    // Moved within the folder, it is the same to the system.
    std::fs::rename(fixture.path("deep"), fixture.path("moved")).unwrap();
    assert_eq!(
        told.next(2).await,
        ["created moved/er/a", "deleted deep/er/a"]
    );
    for key in ["moved/er/b", "moved/er/still/c", "deep/er/d"] {
        fixture.write(key, "1");
        let batch = next_within(&mut *told.source, HINTED).await;
        assert!(
            batch.is_some_and(|batch| batch.unwrap().messages.len() == 1),
            "{key}"
        );
    }
    std::fs::remove_dir_all(fixture.path("moved")).unwrap();
    assert_eq!(
        told.next(3).await,
        [
            "deleted moved/er/a",
            "deleted moved/er/b",
            "deleted moved/er/still/c"
        ]
    );
    fixture.write("moved/er/a", "1");
    assert_eq!(told.next(1).await, ["created moved/er/a"]);
}

/// As a user who is not root: in a process of its own where this one is root's.
#[tokio::test]
async fn what_is_unreadable_hides_nothing_else_and_is_found_when_it_becomes_readable() {
    use std::os::unix::fs::PermissionsExt;
    const NAME: &str = "directory::tests::state::what_is_unreadable_hides_nothing_else_and_is_found_when_it_becomes_readable";
    if rustix::process::geteuid().is_root() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let program = folder.path().join("tests");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut nobody = std::process::Command::new("setpriv");
        nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["--exact", NAME])
            .env("TMPDIR", folder.path());
        match nobody.output() {
            Ok(output) => assert!(
                output.status.success()
                    && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
                "{output:?}"
            ),
            Err(error) => println!("left out: cannot run setpriv: {error}"),
        }
        return;
    }
    let fixture = Fixture::new(&json!({}));
    let allow = |key: &str, mode| {
        std::fs::set_permissions(fixture.path(key), std::fs::Permissions::from_mode(mode)).unwrap()
    };
    for key in ["lost+found/hidden", "names-alone/hidden", "open/a"] {
        fixture.write(key, "1");
    }
    allow("lost+found", 0o000);
    allow("names-alone", 0o444);
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, ["created open/a"]);
    for key in ["open/b", "new/c"] {
        fixture.write(key, "1");
        let batch = next_within(&mut *told.source, HINTED).await;
        assert!(
            batch.is_some_and(|batch| batch.unwrap().messages.len() == 1),
            "{key}"
        );
    }
    allow("lost+found", 0o700);
    assert_eq!(told.next(1).await, ["created lost+found/hidden"]);
    allow("names-alone", 0o755);
    assert_eq!(told.next(1).await, ["created names-alone/hidden"]);
    // And when it becomes unreadable, nothing in it has been deleted.
    allow("lost+found", 0o000);
    std::fs::remove_file(fixture.path("open/a")).unwrap();
    assert_eq!(told.next(1).await, ["deleted open/a"]);
    allow("lost+found", 0o700);
    std::fs::remove_file(fixture.path("lost+found/hidden")).unwrap();
    assert_eq!(told.next(1).await, ["deleted lost+found/hidden"]);
}

/// Linux takes paths of 4,095 bytes; a tree may be deeper. Nobody can read such a folder by its
/// path, root included.
#[tokio::test]
async fn a_tree_too_deep_to_be_named_and_very_long_names_hide_nothing_else() {
    let fixture = Fixture::new(&json!({}));
    let part = "d".repeat(255);
    let mut folder = rustix::fs::open(
        fixture.path(""),
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&folder, &*part, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        folder = rustix::fs::openat(
            &folder,
            &*part,
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    let long = "ü".repeat(127);
    fixture.write(&long, "1");
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, [format!("created {long}")]);
    fixture.write("a", "1");
    let batch = next_within(&mut *told.source, HINTED)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(batch.messages.len(), 1);
}

#[tokio::test]
async fn names_that_are_shown_alike_have_ids_of_their_own() {
    use std::os::unix::ffi::OsStringExt;
    let fixture = Fixture::new(&json!({}));
    for name in [&b"a%0Ab"[..], b"a\nb", b"odd-%FF", b"odd-\xff"] {
        std::fs::write(
            fixture
                .path("")
                .join(std::ffi::OsString::from_vec(name.to_vec())),
            "1",
        )
        .unwrap();
    }
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(
        told.next(4).await,
        [
            "created a%0Ab",
            "created a%0Ab",
            "created odd-%FF",
            "created odd-%FF"
        ]
    );
    // However alike their times are.
    let names: std::collections::BTreeSet<_> = told
        .events
        .iter()
        .map(|event| event.id().split('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["a%0Ab", "a%250Ab", "odd-%25FF", "odd-%FF"]
    );
}
