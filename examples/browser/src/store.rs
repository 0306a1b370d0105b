//! Reads files to send from the disk, and writes received files to the file system that the browser keeps for the
//! page's origin.

use std::{io, rc::Rc};

use futures::channel::oneshot;
use js_sys::{Array, ArrayBuffer, IteratorNext, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, prelude::*};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemRemoveOptions, FileSystemWritableFileStream, Url,
};

use crate::{
    transfer::{Sink, Source},
    transfers::Progress,
};

// A function that the browser lacks, or does not offer to this page, throws at the call itself. Hence `catch`.
#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_namespace = ["navigator", "storage"], js_name = getDirectory)]
    fn origin_private() -> Result<Promise, JsValue>;

    #[wasm_bindgen(catch, js_namespace = ["navigator", "locks"], js_name = request)]
    fn request_lock(name: &str, held: &JsValue) -> Result<Promise, JsValue>;

    #[wasm_bindgen(catch, js_namespace = ["navigator", "locks"], js_name = query)]
    fn query_locks() -> Result<Promise, JsValue>;
}

/// The folder of all sessions, and the prefix of the names of their locks.
const NAME: &str = "star-example";

/// The folder of this page. Each open page has one, and a lock of the same name.
pub struct Store(FileSystemDirectoryHandle);

impl Store {
    /// Makes the folder, and removes the folders of closed pages.
    ///
    /// # Errors
    /// If the browser has no such file system, or does not offer it to this page.
    pub async fn open(session: &str) -> io::Result<Self> {
        // Lock first, then make the folder: any page may remove a folder without a lock.
        lock(&lock_of(session)).await?;
        let root = cast(JsFuture::from(origin_private().map_err(fault)?).await)?;
        let sessions = folder(&root, NAME).await?;
        let store = Self(folder(&sessions, session).await?);
        remove_closed(&sessions).await?;
        // Write a test file, so that a missing part of the file system shows now and not with the first received
        // file.
        store.create("probe").await?;
        Ok(store)
    }

    /// Makes a new file. Dropping it removes it.
    ///
    /// # Errors
    /// If the browser cannot write a file.
    pub async fn create(&self, name: &str) -> io::Result<Stored> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(true);
        let file = self.0.get_file_handle_with_options(name, &options);
        let file: FileSystemFileHandle = cast(JsFuture::from(file).await)?;
        // Some browsers have the file system but cannot write to it from a page.
        let writes = Reflect::has(&file, &"createWritable".into()).unwrap_or(false);
        if !writes {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let writable = cast(JsFuture::from(file.create_writable()).await)?;
        Ok(Stored {
            folder: self.0.clone(),
            name: name.to_owned(),
            file,
            writable: Some(writable),
        })
    }
}

/// A file in the page's folder.
pub struct Stored {
    folder: FileSystemDirectoryHandle,
    name: String,
    file: FileSystemFileHandle,
    /// The open writer; `None` once everything is written.
    writable: Option<FileSystemWritableFileStream>,
}

impl Stored {
    /// Has the browser offer the file under a URL.
    ///
    /// # Errors
    /// If the browser no longer has the file.
    pub async fn keep(self) -> io::Result<Kept> {
        let file: File = cast(JsFuture::from(self.file.get_file()).await)?;
        let address = Url::create_object_url_with_blob(&file).map_err(fault)?;
        Ok(Kept {
            address,
            _stored: self,
        })
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let writable = self.writable.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        // This is a copy, because the memory of this program may move while the browser writes.
        let bytes = Uint8Array::from(bytes);
        let written = writable.write_with_buffer_source(&bytes).map_err(fault)?;
        JsFuture::from(written).await.map_err(fault)?;
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        let writable = self.writable.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        JsFuture::from(writable.close()).await.map_err(fault)?;
        self.writable = None;
        Ok(())
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        let (folder, name) = (self.folder.clone(), self.name.clone());
        let writable = self.writable.take();
        spawn_local(async move {
            // A file that cannot be removed now is removed by the next page that opens.
            if let Some(writable) = writable {
                let _ = JsFuture::from(writable.abort()).await;
            }
            let _ = JsFuture::from(folder.remove_entry(&name)).await;
        });
    }
}

/// A received file that can be saved elsewhere.
pub struct Kept {
    address: String,
    _stored: Stored,
}

impl Kept {
    /// The URL for a link to the file. It works in this page only.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // This cannot fail: the browser itself made this URL.
        let _ = Url::revoke_object_url(&self.address);
    }
}

/// A file that is being received.
pub struct Receiving {
    stored: Stored,
    progress: Rc<Progress>,
}

impl Receiving {
    pub fn new(stored: Stored, progress: Rc<Progress>) -> Self {
        Self { stored, progress }
    }

    pub fn into_stored(self) -> Stored {
        self.stored
    }
}

impl Sink for Receiving {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stored.write(bytes).await?;
        self.progress.add(bytes.len());
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.stored.finish().await
    }
}

/// A file that is being sent.
pub struct Sending {
    file: File,
    at: f64,
    progress: Rc<Progress>,
}

impl Sending {
    pub fn new(file: File, progress: Rc<Progress>) -> Self {
        Self {
            file,
            at: 0.0,
            progress,
        }
    }
}

impl Source for Sending {
    async fn next(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let end = self.at + most as f64;
        let slice = self.file.slice_with_f64_and_f64(self.at, end);
        let bytes = slice.map_err(fault)?.array_buffer();
        let bytes: ArrayBuffer = cast(JsFuture::from(bytes).await)?;
        let bytes = Uint8Array::new(&bytes).to_vec();
        // A chunk counts as progress when it is read. The previous chunk may then still be on its way to the stream.
        self.progress.add(bytes.len());
        self.at = end;
        Ok(bytes)
    }
}

async fn folder(
    parent: &FileSystemDirectoryHandle,
    name: &str,
) -> io::Result<FileSystemDirectoryHandle> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(true);
    let folder = parent.get_directory_handle_with_options(name, &options);
    cast(JsFuture::from(folder).await)
}

async fn remove_closed(sessions: &FileSystemDirectoryHandle) -> io::Result<()> {
    let locks = held().await?;
    let names = sessions.keys();
    loop {
        let next = names.next().map_err(fault)?;
        let next: IteratorNext = JsFuture::from(next).await.map_err(fault)?.unchecked_into();
        let Some(name) = next.value().as_string().filter(|_| !next.done()) else {
            return Ok(());
        };
        if locks.contains(&lock_of(&name)) {
            continue;
        }
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        // Another page may be removing it as well.
        let _ = JsFuture::from(sessions.remove_entry_with_options(&name, &options)).await;
    }
}

fn lock_of(session: &str) -> String {
    format!("{NAME}/{session}")
}

/// Takes the lock, and holds it until the page is closed.
async fn lock(name: &str) -> io::Result<()> {
    let (tell, held) = oneshot::channel();
    let callback = Closure::once_into_js(move || {
        // The page may have given up waiting.
        let _ = tell.send(());
        Promise::new(&mut |_, _| {})
    });
    // The promise is never resolved, so the lock is held until the page ends.
    let _ = request_lock(name, &callback).map_err(fault)?;
    held.await.map_err(io::Error::other)
}

async fn held() -> io::Result<Vec<String>> {
    let locks = query_locks().map_err(fault)?;
    let locks = JsFuture::from(locks).await.map_err(fault)?;
    let held = Reflect::get(&locks, &"held".into()).map_err(fault)?;
    let held = Array::from(&held);
    let names = held.iter().filter_map(|lock| {
        let name = Reflect::get(&lock, &"name".into());
        name.ok()?.as_string()
    });
    Ok(names.collect())
}

fn cast<T: JsCast>(value: Result<JsValue, JsValue>) -> io::Result<T> {
    let other = |_| io::Error::from(io::ErrorKind::Unsupported);
    value.map_err(fault)?.dyn_into().map_err(other)
}

/// Returns the browser's error as an I/O error.
fn fault(error: JsValue) -> io::Error {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => io::Error::other(String::from(error.message())),
        None => io::Error::other("the browser gives no reason"),
    }
}
