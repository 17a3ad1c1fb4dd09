-- The execution whose request an activity answers: it may ask again without knowing that it was heard.
ALTER TABLE asg_activities ADD COLUMN asked_by TEXT;
CREATE INDEX asg_activities_asked_by ON asg_activities (asked_by);
