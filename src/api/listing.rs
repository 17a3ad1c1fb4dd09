//! Lists as StackStorm's clients expect them: pages with `X-Total-Count` and `X-Limit`, and a choice of attributes.

use axum::Json;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::error::{ApiError, ApiResult};
use crate::store::rows::Page;

/// What every list understands.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ListQuery {
    limit: Option<i64>,
    offset: Option<i64>,
    include_attributes: Option<String>,
    exclude_attributes: Option<String>,
}

/// More than this in one answer helps nobody; whoever wants more turns the page.
const MOST: i64 = 1000;

impl ListQuery {
    /// The page that is wanted; `default` if the caller does not say how much.
    pub(super) fn page(&self, default: i64) -> ApiResult<Page> {
        let limit = match self.limit.unwrap_or(default) {
            -1 => MOST,
            limit if limit < 1 => {
                return Err(ApiError::bad_request(format!("limit={limit}: write a number from 1, or -1 for all")));
            }
            limit if limit > MOST => {
                return Err(ApiError::bad_request(format!(
                    "limit={limit}: at most {MOST} at once; go on with offset="
                )));
            }
            limit => limit,
        };
        let offset = self.offset.unwrap_or(0);
        if offset < 0 {
            return Err(ApiError::bad_request(format!("offset={offset}: write a number from 0")));
        }
        Ok(Page { limit, offset })
    }

    fn attributes(&self) -> ApiResult<Attributes> {
        let split = |text: &String| text.split(',').map(|path| path.trim().to_owned()).collect::<Vec<_>>();
        match (&self.include_attributes, &self.exclude_attributes) {
            (Some(_), Some(_)) => {
                Err(ApiError::bad_request("include_attributes and exclude_attributes exclude each other"))
            }
            (Some(include), None) => Ok(Attributes::Only(split(include))),
            (None, Some(exclude)) => Ok(Attributes::AllBut(split(exclude))),
            (None, None) => Ok(Attributes::All),
        }
    }

    /// A page that the store has cut, with how many there are in all.
    pub(super) fn answer(&self, items: Vec<Value>, total: i64, page: Page) -> ApiResult<Response> {
        let attributes = self.attributes()?;
        let items: Vec<Value> = items.into_iter().map(|item| attributes.choose(item)).collect();
        let mut response = Json(items).into_response();
        response.headers_mut().insert("x-total-count", HeaderValue::from(total));
        response.headers_mut().insert("x-limit", HeaderValue::from(page.limit));
        Ok(response)
    }

    /// A list that is whole in memory: cut here. Without a limit, all of it.
    pub(super) fn cut(&self, items: Vec<Value>) -> ApiResult<Response> {
        let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let all = self.limit.is_none_or(|limit| limit == -1);
        let page = if all {
            Page { limit: total.max(1), ..self.clone().without_limit().page(MOST)? }
        } else {
            self.page(MOST)?
        };
        let as_size = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        let items = items.into_iter().skip(as_size(page.offset)).take(as_size(page.limit)).collect();
        self.answer(items, total, page)
    }

    /// The same for a list whose objects are always shown whole.
    pub(super) fn whole(&self, items: Vec<Value>) -> ApiResult<Response> {
        Self { include_attributes: None, exclude_attributes: None, ..self.clone() }.cut(items)
    }

    fn without_limit(self) -> Self {
        Self { limit: None, ..self }
    }

    /// One object with the attributes that are wanted.
    pub(super) fn single(&self, item: Value) -> ApiResult<Json<Value>> {
        Ok(Json(self.attributes()?.choose(item)))
    }
}

/// Which attributes of an object are wanted; dotted paths.
enum Attributes {
    All,
    Only(Vec<String>),
    AllBut(Vec<String>),
}

/// What clients need to find their way back to the object.
const ALWAYS: [&str; 2] = ["id", "ref"];

impl Attributes {
    fn choose(&self, mut item: Value) -> Value {
        match self {
            Self::All => item,
            Self::Only(paths) => {
                let mut chosen = Value::Object(Map::new());
                for path in paths.iter().map(String::as_str).chain(ALWAYS) {
                    copy_path(&item, &mut chosen, path);
                }
                chosen
            }
            Self::AllBut(paths) => {
                for path in paths.iter().filter(|path| !ALWAYS.contains(&path.as_str())) {
                    remove_path(&mut item, path);
                }
                item
            }
        }
    }
}

fn copy_path(from: &Value, to: &mut Value, path: &str) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (Some(value), Value::Object(to)) = (from.get(first), to) else { return };
    match rest {
        Some(rest) if value.is_object() => {
            copy_path(value, to.entry(first).or_insert_with(|| Value::Object(Map::new())), rest);
        }
        Some(_) | None => drop(to.insert(first.to_owned(), value.clone())),
    }
}

fn remove_path(item: &mut Value, path: &str) {
    let Value::Object(members) = item else { return };
    match path.split_once('.') {
        Some((first, rest)) => {
            if let Some(inner) = members.get_mut(first) {
                remove_path(inner, rest);
            }
        }
        None => drop(members.remove(path)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(text: &str) -> ListQuery {
        serde_json::from_value(
            form_urlencoded::parse(text.as_bytes())
                .map(|(name, value)| {
                    let number = value.parse::<i64>().map(Value::from);
                    (name.into_owned(), number.unwrap_or_else(|_| Value::from(&*value)))
                })
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn attributes_are_chosen_by_dotted_paths_and_ids_always_stay() {
        let item = json!({"id": "1", "ref": "a.b", "action": {"ref": "core.noop", "name": "noop"}, "result": {"x": 1}});
        let only = query("include_attributes=action.ref,nothing").single(item.clone()).unwrap().0;
        assert_eq!(only, json!({"id": "1", "ref": "a.b", "action": {"ref": "core.noop"}}));
        let but = query("exclude_attributes=result,action.name,id").single(item.clone()).unwrap().0;
        assert_eq!(but, json!({"id": "1", "ref": "a.b", "action": {"ref": "core.noop"}}));
        assert!(query("include_attributes=a&exclude_attributes=b").single(item).is_err());
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(query("").page(50).unwrap(), Page { limit: 50, offset: 0 });
        assert_eq!(query("limit=-1&offset=3").page(50).unwrap(), Page { limit: MOST, offset: 3 });
        for wrong in ["limit=0", "limit=-2", "limit=1001", "offset=-1"] {
            assert!(query(wrong).page(50).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_in_memory_is_whole_unless_a_page_is_asked_for() {
        let items = || (0..5).map(|n| json!({"id": n})).collect::<Vec<_>>();
        for (text, total, limit) in [("", "5", "5"), ("limit=2&offset=1", "5", "2"), ("limit=-1", "5", "5")] {
            let response = query(text).cut(items()).unwrap();
            assert_eq!(response.headers()["x-total-count"], total, "{text}");
            assert_eq!(response.headers()["x-limit"], limit, "{text}");
        }
    }
}
