//! A script with everything it imports, compiled as one: what an execution pins when it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rhai::{AST, ASTNode, Engine, EvalAltResult, Expr, Module, ModuleResolver, Scope, Shared, Stmt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::scripts;
use crate::workflows::builtins::FORBIDDEN;
use crate::workflows::engine::loading_engine;
use crate::workflows::limits::Limits;
use crate::workflows::lint::call_of;
use crate::workflows::request::hex;

/// The builtins' version. Counts up when a script written for the old ones would ask different steps.
pub const API_VERSION: u32 = 1;

/// Modules that import modules; each level takes stack while they are compiled.
const MAX_IMPORT_DEPTH: usize = 16;

/// The texts of a bundle: what is stored with an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Builtins it was written for.
    pub api: u32,
    /// The script that is evaluated.
    pub main: String,
    /// Texts by name: the main script and what it imports, directly or not.
    pub texts: BTreeMap<String, String>,
}

impl Sources {
    /// SHA-256 over all of it, in hex: equal bundles have equal digests.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        add(&self.api.to_string());
        add(&self.main);
        for (name, text) in &self.texts {
            add(name);
            add(text);
        }
        hex(&hash.finalize())
    }
}

/// A compiled script and its imports.
#[derive(Clone)]
pub struct Bundle {
    sources: Sources,
    digest: String,
    ast: AST,
    asts: BTreeMap<String, AST>,
    modules: Arc<BTreeMap<String, Shared<Module>>>,
}

/// Why a script cannot be used, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CompileError {
    /// Name of the script or import.
    pub file: String,
    /// Line from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// Column from 1; 0 if it is the line as a whole.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.rhai:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl Bundle {
    /// Compiles a script and what it imports. `read` gives the text of a name, as `lib/dns` in `import "lib/dns" as dns`.
    pub fn load(main: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Self, CompileError> {
        let mut loading = Loading::new(read);
        let text = read(main).ok_or_else(|| nowhere(main, "there is no such script"))?;
        loading.import_all(main, &text)?;
        let ast = loading.asts.get(main).cloned().ok_or_else(|| nowhere(main, "it was not compiled"))?;
        let sources = Sources { api: API_VERSION, main: main.to_owned(), texts: loading.texts };
        let modules = Arc::new(loading.modules);
        Ok(Self { digest: sources.digest(), sources, ast, asts: loading.asts, modules })
    }

    /// Compiles what an execution has pinned.
    pub fn from_sources(sources: &Sources) -> Result<Self, CompileError> {
        if sources.api != API_VERSION {
            let message = format!("it was written for version {} of the builtins, this is {API_VERSION}", sources.api);
            return Err(nowhere(&sources.main, message));
        }
        Self::load(&sources.main, &|name| sources.texts.get(name).cloned())
    }

    /// What to store.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// [`Sources::digest`].
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn ast(&self) -> &AST {
        &self.ast
    }

    /// The main script and its imports by name.
    pub(super) fn asts(&self) -> &BTreeMap<String, AST> {
        &self.asts
    }

    pub(super) fn imports(&self) -> Imports {
        Imports(Arc::clone(&self.modules))
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("main", &self.sources.main).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// Gives modules that were compiled with the bundle, and no others.
pub(super) struct Imports(Arc<BTreeMap<String, Shared<Module>>>);

impl ModuleResolver for Imports {
    fn resolve(
        &self,
        _: &Engine,
        _: Option<&str>,
        path: &str,
        place: rhai::Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let missing = || Box::new(EvalAltResult::ErrorModuleNotFound(path.to_owned(), place));
        self.0.get(path).map(Shared::clone).ok_or_else(missing)
    }
}

/// Work in progress of [`Bundle::load`]: depth first, so that a module's imports are there before it.
struct Loading<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    engine: Engine,
    texts: BTreeMap<String, String>,
    asts: BTreeMap<String, AST>,
    modules: BTreeMap<String, Shared<Module>>,
    in_progress: BTreeSet<String>,
}

impl<'a> Loading<'a> {
    fn new(read: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            read,
            engine: loading_engine(&Limits::default()),
            texts: BTreeMap::new(),
            asts: BTreeMap::new(),
            modules: BTreeMap::new(),
            in_progress: BTreeSet::new(),
        }
    }

    /// Compiles a text after everything it imports.
    fn import_all(&mut self, name: &str, text: &str) -> Result<(), CompileError> {
        scripts::check_source(text).map_err(|message| nowhere(name, message))?;
        self.in_progress.insert(name.to_owned());
        if self.in_progress.len() > MAX_IMPORT_DEPTH {
            return Err(nowhere(name, format!("imports are nested more than {MAX_IMPORT_DEPTH} deep")));
        }
        let mut ast = self.engine.compile(text).map_err(|error| failed(name, error.1, error.0.to_string()))?;
        ast.set_source(name);
        refuse_forbidden(name, &ast)?;
        for (path, place) in imports_of(name, &ast)? {
            self.import(name, &path, place)?;
        }
        self.in_progress.remove(name);
        self.texts.insert(name.to_owned(), text.to_owned());
        self.asts.insert(name.to_owned(), ast);
        Ok(())
    }

    fn import(&mut self, by: &str, path: &str, place: rhai::Position) -> Result<(), CompileError> {
        if self.modules.contains_key(path) {
            return Ok(());
        }
        let refused = |message: &str| failed(by, place, format!("import \"{path}\": {message}"));
        if !path.split('/').all(|part| !part.is_empty() && part != "." && part != "..") {
            return Err(refused("an import is a path inside the pack, as \"lib/dns\""));
        }
        if self.in_progress.contains(path) {
            return Err(refused("the imports form a circle"));
        }
        let text = (self.read)(path).ok_or_else(|| refused("there is no such script in the pack"))?;
        self.import_all(path, &text)?;
        let module = self.module(path)?;
        self.modules.insert(path.to_owned(), module.into());
        Ok(())
    }

    /// Evaluates a module's constants, which may be computed but not asked.
    fn module(&mut self, name: &str) -> Result<Module, CompileError> {
        let ast = self.asts.get(name).ok_or_else(|| nowhere(name, "it was not compiled"))?;
        self.engine.set_module_resolver(Imports(Arc::new(self.modules.clone())));
        Module::eval_ast_as_new(Scope::new(), ast, &self.engine).map_err(|error| {
            let hint = "a module's own statements may define constants, its functions may do the rest";
            failed(name, error.unwrap_inner().position(), format!("{}: {hint}", error.unwrap_inner()))
        })
    }
}

/// The literal import paths of a script.
fn imports_of(name: &str, ast: &AST) -> Result<Vec<(String, rhai::Position)>, CompileError> {
    let mut found = Ok(Vec::new());
    ast.walk(&mut |path| {
        let Some(ASTNode::Stmt(Stmt::Import(import, place))) = path.last() else {
            return true;
        };
        match (&import.0, &mut found) {
            (Expr::StringConstant(path, _), Ok(paths)) => paths.push((path.to_string(), *place)),
            _ => {
                found = Err(failed(name, *place, "an import needs a literal path, as \"lib/dns\""));
            }
        }
        found.is_ok()
    });
    found
}

/// Functions that would make a script depend on something outside its journal.
fn refuse_forbidden(name: &str, ast: &AST) -> Result<(), CompileError> {
    let mut found = Ok(());
    ast.walk(&mut |path| {
        let Some((call, place)) = call_of(path) else {
            return true;
        };
        if let Some((_, instead)) = FORBIDDEN.iter().find(|(forbidden, _)| call.name.as_str() == *forbidden) {
            found = Err(failed(name, place, format!("`{}` is not there in workflows: {instead}", call.name)));
        }
        found.is_ok()
    });
    found
}

fn failed(file: &str, place: rhai::Position, message: impl Into<String>) -> CompileError {
    let (line, column) = (place.line().unwrap_or(0), place.position().unwrap_or(0));
    CompileError { file: file.to_owned(), line, column, message: message.into() }
}

fn nowhere(file: &str, message: impl Into<String>) -> CompileError {
    failed(file, rhai::Position::NONE, message)
}
