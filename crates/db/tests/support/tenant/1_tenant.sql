create table migrated_by as select current_setting('app.tenant') as tenant;
